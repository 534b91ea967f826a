"""e(t) = E‖x_0 − x̂_0(x_t)‖² and the decoder's term, per image: all that the ELBO needs of a model.

One network call per timestep and image fills the whole table of L(s, t): s enters through closed forms alone
(Watson et al. 2021, §3).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.likelihood import discretised_gaussian_nats, prior_nats
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.variance import OptimalVariance, PosteriorVariance, Variance, make_variance

KIND = "denoising_error"


@dataclass(frozen=True, kw_only=True)
class DenoisingError:
    """Per-image sums at N grid timesteps, float64, nats.

    Attributes:
        process: the process of the model.
        indices: the grid indices, ascending, [N].
        error: ‖x_0 − x̂_0‖² [N, images].
        decoder_of_process: −log p(x_0 | x_t) [N, images] with the decoder variance of `posterior` and `beta`.
        decoder_of_error: the same with the variance of `optimal`, fitted_error.
        fitted_error: e(t)/D [N] of the split on which `optimal` is fitted; the own mean on that split.
        prior: KL(q(x_1 | x_0) ‖ p(x_1)) [images].
        dimensions: D = C·H·W.
        levels: number of grey levels of the data.
        split: the split that the images are of; `fitted_split`: the one behind fitted_error.
        seed: of the noise, one ε per image common to all timesteps.
        calls: evaluations of the network, images × timesteps.
    """

    process: Process
    indices: Tensor
    error: Tensor
    decoder_of_process: Tensor
    decoder_of_error: Tensor
    fitted_error: Tensor
    prior: Tensor
    dimensions: int
    levels: int
    split: str
    fitted_split: str
    seed: int
    calls: int

    @property
    def times(self) -> Tensor:
        """float64 [N], the times of `indices`."""
        return self.process.grid[self.indices]

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.error.shape[1]

    def rows(self, indices: Sequence[int]) -> Tensor:
        """The rows of the given grid indices.

        Raises:
            UserError: these statistics lack one of them.
        """
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        rows = torch.searchsorted(self.indices, wanted).clamp(max=len(self.indices) - 1)
        if not torch.equal(self.indices[rows], wanted):
            missing = sorted(set(wanted.tolist()) - set(self.indices.tolist()))
            raise UserError(f"The statistics lack the timesteps {missing[:5]}; estimate them there first.")
        return rows

    def variance(self, kind: str) -> Variance:
        """The variance kind, `optimal` with its fit from `fitted_split`."""
        return make_variance(kind, self.times, self.fitted_error)

    def decoder(self, kind: str) -> Tensor:
        """−log p(x_0 | x_t) [N, images] under the additive decoder of a variance kind."""
        return self.decoder_of_error if kind == OptimalVariance.name else self.decoder_of_process

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        facts = {name: getattr(self, name) for name in _FACTS} | {
            "process": self.process.definition,
            "kind": KIND,
        }
        metadata = {"fewstep": json.dumps(facts)}
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, path: Path) -> "DenoisingError":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or of another kind.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["fewstep"])
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
            if facts.pop("kind") != KIND:
                raise UserError(f"{path} does not hold statistics of the kind {KIND}.")
            process = Process.from_definition(facts.pop("process"))
            return cls(process=process, **tensors, **{name: facts[name] for name in _FACTS})
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"The statistics file {path} cannot be read: {error}.") from None


_TENSORS = ("indices", "error", "decoder_of_process", "decoder_of_error", "fitted_error", "prior")
_FACTS = ("dimensions", "levels", "split", "fitted_split", "seed", "calls")


class DenoisingErrorEstimator:
    """Measures `DenoisingError` one timestep at a time, so that devices can share the timesteps out.

    Args:
        images: [B, C, H, W] in [-1, 1]; image b takes the noise of index b of its split.
        labels: int64 [B] where the model is class-conditional.
        split: the split that the images are of.
        levels: number of grey levels.
        indices: grid indices to measure at, ascending, in 1 … T.
        seed: of the noise.
        batch_size: images per network call.
        fitted: statistics of the split that `optimal` is fitted on; where absent, these images themselves.
    """

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
    ) -> None:
        self.images = images.to(torch.float64)
        self.labels = labels
        self.noise = Noise(seed, range(len(images)), images.shape[1:])(0)
        self.split, self.levels, self.seed, self.batch_size = split, levels, seed, batch_size
        self.indices = [int(index) for index in indices]
        self._variances: Tensor | None = None
        self.fitted_error = None if fitted is None else fitted.fitted_error[fitted.rows(self.indices)]
        self.fitted_split = split if fitted is None else fitted.fitted_split

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> None:
        """Move images and noise to a device, once."""
        self.images, self.noise = self.images.to(device), self.noise.to(device)
        self.labels = None if self.labels is None else self.labels.to(device)

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Tensor]:
        """Everything at the timestep of `indices[row]`, one network call per image; tensors on the CPU."""
        process = denoiser.process
        t = process.grid[self.indices[row]]
        x0 = self.images
        predicted = torch.cat(
            [
                self._predict(denoiser, t, slice(first, first + self.batch_size))
                for first in range(0, len(x0), self.batch_size)
            ]
        )
        error = (x0 - predicted).square().flatten(1).sum(1)
        if self.fitted_error is None:
            fitted_error = error.mean() / x0[0].numel()
        else:
            fitted_error = self.fitted_error[row].to(x0.device)
        of_process = self._decoder_variances(process)[row]
        variances = torch.stack([of_process.to(x0.device), fitted_error]).repeat_interleave(len(x0))
        decoded = discretised_gaussian_nats(  # both decoders in one call
            x0.repeat(2, 1, 1, 1), predicted.repeat(2, 1, 1, 1), variances[:, None, None, None], self.levels
        )
        measured = {
            "error": error,
            "decoder_of_process": decoded[: len(x0)],
            "decoder_of_error": decoded[len(x0) :],
            "fitted_error": fitted_error,
        }
        return {name: value.cpu() for name, value in measured.items()}

    def _decoder_variances(self, process: Process) -> Tensor:
        """The variance with which `posterior` and `beta` decode at every row, worked out once."""
        if self._variances is None:
            self._variances = PosteriorVariance().decoder(process, process.grid[self.indices])
        return self._variances

    def _predict(self, denoiser: Denoiser, t: Tensor, batch: slice) -> Tensor:
        x0, noise = self.images[batch], self.noise[batch]
        label = None if self.labels is None else self.labels[batch]
        return denoiser(denoiser.process.add_noise(x0, t, noise), t, label).x0

    def collect(self, process: Process, measured: Sequence[dict[str, Tensor]]) -> DenoisingError:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order.

        Raises:
            UserError: the network returned something that is not finite.
        """
        stacked: dict[str, Any] = {name: torch.stack([row[name] for row in measured]) for name in measured[0]}
        wrong = ~torch.isfinite(stacked["error"]).all(dim=1)
        if bool(wrong.any()):
            at = self.indices[int(wrong.nonzero()[0])]
            raise UserError(f"The network's output is not finite at grid index {at}; its weights may hold NaN.")
        return DenoisingError(
            process=process,
            indices=torch.tensor(self.indices),
            **stacked,
            prior=prior_nats(process, self.images).cpu(),
            dimensions=self.images[0].numel(),
            levels=self.levels,
            split=self.split,
            fitted_split=self.fitted_split,
            seed=self.seed,
            calls=len(self.images) * len(self.indices),
        )


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = DenoisingErrorEstimator
load = DenoisingError.load
