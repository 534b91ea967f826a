"""e(t) = E‖x_0 − x̂_0(x_t)‖² and the decoder's term, per image: all that the ELBO needs of a model.

One network call per timestep and image fills the whole table of L(s, t): s enters through closed forms alone
(Watson et al. 2021, §3), for a learned variance through one scalar (fewstep.statistics.fraction_sums).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import image_numbers
from fewstep.denoiser import Denoiser, Prediction
from fewstep.errors import UserError
from fewstep.likelihood import discretised_gaussian_nats, prior_nats
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.statistics.fraction_sums import collect_fraction_sums, measure_fraction_sums
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.variance_decoder import collect_variance_decoder, measure_variance_decoder
from fewstep.variance import LearnedVariance, PosteriorVariance

__all__ = ["KIND", "DenoisingError", "DenoisingErrorEstimator", "Estimator", "load"]

KIND = "denoising_error"
NOISES = ("common", "fresh")


class DenoisingErrorEstimator:
    """Measures `DenoisingError` one timestep at a time, so that devices can share the timesteps out.

    Args:
        images: [B, C, H, W] in [-1, 1]; image b takes the noise of the split's number b.
        labels: int64 [B] where the model is class-conditional.
        split: the split that the images are of.
        levels: number of grey levels.
        indices: grid indices to measure at, ascending, in 1 … T.
        seed: of the noise.
        batch_size: images per network call.
        fitted: statistics of the split that `optimal` is fitted on; where absent, these images themselves.
        noise: `common`: one ε per image, the same at every timestep; `fresh`: another at every timestep, with
            which the programme picks lucky timesteps.
        first: the number of the first image within its split.
        extensible: keep what lets other images join where `optimal` is fitted on these, as it costs more decoders.
        means: keep the means over images alone, timestep by timestep.
    """

    kind = KIND

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        *,
        split: str,
        levels: int,
        indices: Sequence[int],
        seed: int,
        batch_size: int,
        fitted: DenoisingError | None = None,
        noise: str = "common",
        first: int = 0,
        extensible: bool = False,
        means: bool = False,
    ) -> None:
        if noise not in NOISES:
            raise UserError(f"There is no noise {noise!r} for statistics; allowed are {', '.join(NOISES)}.")
        self.images = images.to(torch.float64)
        self.labels = labels
        self.noise = noise
        self.extensible = extensible and fitted is None
        self.means = means
        self.draw = Noise(seed, image_numbers(split, first + len(images))[first:], images.shape[1:])
        self.common_noise = self.draw(0)
        self.split, self.levels, self.seed, self.batch_size = split, levels, seed, batch_size
        self.indices = [int(index) for index in indices]
        self.fitted_error = None if fitted is None else fitted.fitted_error[fitted.rows(self.indices)]
        self.fitted_split = split if fitted is None else fitted.fitted_split
        self._decoder_variances: Tensor | None = None

    @staticmethod
    def network_calls(images: int, timesteps: int) -> int:
        """One per image and timestep."""
        return images * timesteps

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> None:
        """Move images and noise to a device, once."""
        self.images, self.common_noise = self.images.to(device), self.common_noise.to(device)
        self.labels = None if self.labels is None else self.labels.to(device)

    def prepare(self, process: Process) -> None:
        """Work out, once, the variance with which `posterior` and `beta` decode at every row."""
        self._decoder_variances = PosteriorVariance().decoder(process, process.grid[self.indices])

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Any]:
        """Everything at the timestep of `indices[row]`, one network call per image; tensors on the CPU.

        Rows may be measured at once in several threads after `prepare`.
        """
        if self._decoder_variances is None:
            self.prepare(denoiser.process)
        prediction = self._predict(denoiser, row)
        measured = self.sums(denoiser.process, row, prediction)
        if self.means:
            error = measured["error"]
            spread = error.std() if len(error) > 1 else torch.zeros_like(error[0])
            measured = {name: _mean(value) for name, value in measured.items()} | {"error_spread": spread}
        return {name: _on_cpu(value) for name, value in measured.items()}

    def sums(self, process: Process, row: int, prediction: Prediction) -> dict[str, Any]:
        """What is kept of a prediction of all images."""
        assert self._decoder_variances is not None
        x0, predicted = self.images, prediction.x0
        residual = (x0 - predicted).flatten(1)
        error = residual.square().sum(1)
        fitted_error = error.mean() / residual.shape[1] if self.fitted_error is None else self.fitted_error[row]
        of_process = self._decoder_variances[row].to(x0.device)
        variances = torch.stack([of_process, fitted_error.to(x0.device)]).repeat_interleave(len(x0))
        decoded = discretised_gaussian_nats(  # both decoders in one call
            x0.repeat(2, 1, 1, 1), predicted.repeat(2, 1, 1, 1), variances[:, None, None, None], self.levels
        )
        measured: dict[str, Any] = {
            "error": error,
            "decoder_of_process": decoded[: len(x0)],
            "decoder_of_error": decoded[len(x0) :],
            "fitted_error": fitted_error,
        }
        if self.extensible:
            measured["by_variance"] = measure_variance_decoder(
                x0, predicted, fitted_error.to(x0.device), self.levels
            )
        if prediction.fraction is not None:
            t = process.grid[self.indices[row]]
            measured["fraction"] = measure_fraction_sums(process, t, residual, prediction.fraction.flatten(1))
            measured["decoder_of_fraction"] = measured["decoder_of_process"]
            if self.indices[row] == 1:  # where alone the two ends of the learned variance differ
                variance = LearnedVariance().decoder(process, t, prediction.fraction)
                measured["decoder_of_fraction"] = discretised_gaussian_nats(x0, predicted, variance, self.levels)
        return measured

    def _predict(self, denoiser: Denoiser, row: int) -> Prediction:
        process, index = denoiser.process, self.indices[row]
        t = process.grid[index]
        noise = self.common_noise if self.noise == "common" else self.draw(index).to(self.images.device)
        predictions = []
        for first in range(0, len(self.images), self.batch_size):
            batch = slice(first, first + self.batch_size)
            x_t = process.add_noise(self.images[batch], t, noise[batch])
            predictions.append(denoiser(x_t, t, None if self.labels is None else self.labels[batch]))
        fractions = [prediction.fraction for prediction in predictions if prediction.fraction is not None]
        return Prediction(
            torch.cat([prediction.x0 for prediction in predictions]), torch.cat(fractions) if fractions else None
        )

    def collect(self, process: Process, measured: Sequence[dict[str, Any]]) -> DenoisingError:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order.

        Raises:
            UserError: the network returned something that is not finite.
        """
        of_images = [name for name in measured[0] if isinstance(measured[0][name], Tensor)]
        stacked: dict[str, Any] = {name: torch.stack([row[name] for row in measured]) for name in of_images}
        if "fraction" in measured[0]:
            stacked["fraction"] = collect_fraction_sums([row["fraction"] for row in measured])
        if self.extensible:
            stacked["by_variance"] = collect_variance_decoder([row["by_variance"] for row in measured])
        self._check_finite(stacked)
        prior = prior_nats(process, self.images).cpu()
        return DenoisingError(
            process=process,
            indices=torch.tensor(self.indices),
            **stacked,
            prior=_mean(prior) if self.means else prior,
            dimensions=self.images[0].numel(),
            levels=self.levels,
            split=self.split,
            fitted_split=self.fitted_split,
            seed=self.seed,
            calls=len(self.images) * len(self.indices),
            noise=self.noise,
            kind=self.kind,
        )

    def _check_finite(self, stacked: dict[str, Any]) -> None:
        finite = torch.isfinite(stacked["error"]).all(dim=1)
        if "fraction" in stacked:
            finite &= torch.isfinite(stacked["fraction"].mean).flatten(1).all(dim=1)
        if not bool(finite.all()):
            at = self.indices[int((~finite).nonzero()[0])]
            raise UserError(f"The network's output is not finite at grid index {at}; its weights may hold NaN.")


def _mean(value: Any) -> Any:
    """The mean over images, the last size of what is of every image; the rest as it is."""
    if isinstance(value, Tensor):
        return value.mean(-1, keepdim=True) if value.ndim else value
    return tuple(_mean(part) for part in value) if isinstance(value, tuple) else value


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    return tuple(_on_cpu(part) for part in value) if isinstance(value, tuple) else value


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = DenoisingErrorEstimator
load = DenoisingError.load
