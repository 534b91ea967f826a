"""The first step's term in improved-diffusion's own arithmetic, at the first two nodes of given schedules.

That code's figures differ from those of the convention `improved_diffusion` in this term alone, but for float32's
rounding: it takes a tanh approximation of Φ in float32 and clamps logarithms, which no polynomial in the variance
holds. So it is measured for the pairs (n_1, n_2) of the schedules that are judged: one network call per image and
distinct n_1, whatever K, instead of that code's K per schedule. Every other term comes out of the statistics of
the clipped x̂_0.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import Images, image_numbers
from fewstep.denoiser import Denoiser, Prediction
from fewstep.errors import UserError
from fewstep.likelihood import tanh_discretised_gaussian_nats
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.statistics.pair_decoder import log_posterior_variance
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics
from fewstep.variance import LearnedVariance, OptimalVariance, log_variance_between

KIND = "tanh_decoder"


@dataclass(frozen=True, kw_only=True)
class TanhDecoder:
    """−log p(x_0 | x_t) of every image at P pairs of first nodes, nats, float64 sums of float32 terms.

    Attributes:
        process: the process of the model.
        first: n_1, grid indices, int64 [P].
        second: n_2.
        of_process: the term of `posterior` and `beta` [P, images].
        of_error: that of `optimal`.
        of_fraction: that of `learned`; None where the network has no variance head.
        split: the split that the images are of.
        seed: of the noise.
        calls: evaluations of the network, images × distinct n_1.
    """

    process: Process
    first: Tensor
    second: Tensor
    of_process: Tensor
    of_error: Tensor
    of_fraction: Tensor | None
    split: str
    seed: int
    calls: int

    def image_nats(self, variance: str, first: int, second: int) -> Tensor:
        """The term of every image, [images], under a variance kind.

        Raises:
            UserError: it was not measured for these two nodes.
        """
        rows = ((self.first == first) & (self.second == second)).nonzero().flatten()
        if not len(rows):
            raise UserError(
                f"The terms of the decoder 'improved_diffusion_tanh' were not measured for schedules whose first "
                f"nodes are the timesteps {first} and {second}; measure them there first."
            )
        if variance == LearnedVariance.name:
            assert self.of_fraction is not None  # whoever asks has asked for the fraction's sums before
            return self.of_fraction[rows[0]]
        return (self.of_error if variance == OptimalVariance.name else self.of_process)[rows[0]]

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        tensors = {name: getattr(self, name) for name in (*_SIZES, *_OPTIONAL_SIZES)}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        write_statistics(path, KIND, self.process, present, {name: getattr(self, name) for name in _FACTS})

    @classmethod
    def load(cls, path: Path) -> "TanhDecoder":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """
        process, tensors, facts = read_statistics(path, KIND, _SIZES, _FACTS, _OPTIONAL_SIZES)
        required: dict[str, Any] = {name: tensors[name] for name in _SIZES}
        return cls(process=process, **facts, **required, of_fraction=tensors.get("of_fraction"))


class TanhDecoderEstimator:
    """Measures `TanhDecoder` one n_1 at a time, reading the images batch by batch.

    Args:
        images: [N, C, H, W] in [-1, 1]; image b takes the noise of the split's number b.
        labels: int64 [N] where the model is class-conditional.
        pairs: (n_1, n_2), grid indices, n_1 < n_2.
        fitted_error: e(n_1)/D of every pair [P], with which `optimal` decodes.
        split: the split that the images are of.
        levels: number of grey levels.
        seed: of the noise.
        batch_size: images per network call.
        noise: `common` or `fresh`, as of the statistics that hold the other terms.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor | None,
        *,
        pairs: Sequence[tuple[int, int]],
        fitted_error: Tensor,
        split: str,
        levels: int,
        seed: int,
        batch_size: int,
        noise: str = "common",
    ) -> None:
        self.images, self.labels = images, labels
        self.numbers = image_numbers(split, len(images))
        self.split, self.levels, self.seed, self.batch_size, self.noise = split, levels, seed, batch_size, noise
        self.seconds: dict[int, list[int]] = defaultdict(list)
        self.fitted: dict[int, Tensor] = {}
        for (first, second), error in sorted(zip(pairs, fitted_error, strict=True), key=lambda item: item[0]):
            self.seconds[first].append(second)
            self.fitted[first] = error
        self.firsts = list(self.seconds)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.firsts)

    def to(self, device: torch.device) -> None:
        """Where images and noise are moved to, batch by batch."""
        self.device = device

    def prepare(self, process: Process) -> None:
        """Nothing is common to the rows."""

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Tensor]:
        """The terms [pairs, images] of the pairs that begin with `firsts[row]`, on the CPU."""
        batches = [
            self._batch(denoiser, self.firsts[row], slice(low, low + self.batch_size))
            for low in range(0, len(self.images), self.batch_size)
        ]
        return {name: torch.cat([batch[name] for batch in batches], dim=1).cpu() for name in batches[0]}

    def _batch(self, denoiser: Denoiser, first: int, rows: slice) -> dict[str, Tensor]:
        """All in float32, coefficients too."""
        process, t = denoiser.process, denoiser.process.grid[first]
        x0 = self.images[rows].to(self.device, torch.float32)
        draw = Noise(self.seed, self.numbers[rows], x0.shape[1:])
        noise = draw(0 if self.noise == "common" else first).to(self.device, torch.float32)
        label = None if self.labels is None else self.labels[rows].to(self.device)
        prediction = denoiser(process.add_noise(x0, t, noise), t, label)
        return self._terms(process, first, x0, Prediction(prediction.x0.clamp(-1, 1), prediction.fraction))

    def _terms(self, process: Process, first: int, x0: Tensor, prediction: Prediction) -> dict[str, Tensor]:
        seconds = self.seconds[first]
        lows = log_posterior_variance(process, torch.tensor(first), torch.tensor(seconds))

        def nats(log_variance: Tensor) -> Tensor:
            return tanh_discretised_gaussian_nats(x0, prediction.x0, log_variance, self.levels)

        terms = {
            "of_process": torch.stack([nats(low) for low in lows]),
            "of_error": nats(self.fitted[first].log()).expand(len(seconds), -1),
        }
        fraction = prediction.fraction
        if fraction is not None:
            high = process.log_variance(process.grid[first])
            terms["of_fraction"] = torch.stack([nats(log_variance_between(low, high, fraction)) for low in lows])
        return terms

    def collect(self, process: Process, measured: Sequence[dict[str, Tensor]]) -> TanhDecoder:
        """All pairs from what `measure` returned for rows 0 … len − 1, in order."""
        terms = {name: torch.cat([row[name] for row in measured]) for name in measured[0]}
        return TanhDecoder(
            process=process,
            first=torch.tensor([first for first in self.firsts for _ in self.seconds[first]]),
            second=torch.tensor([second for first in self.firsts for second in self.seconds[first]]),
            of_process=terms["of_process"],
            of_error=terms["of_error"],
            of_fraction=terms.get("of_fraction"),
            split=self.split,
            seed=self.seed,
            calls=len(self.images) * len(self.firsts),
        )


_PER_IMAGE: Sizes = ("pairs", "images")
_SIZES: dict[str, Sizes] = {
    "first": ("pairs",),
    "second": ("pairs",),
    "of_process": _PER_IMAGE,
    "of_error": _PER_IMAGE,
}
_OPTIONAL_SIZES: dict[str, Sizes] = {"of_fraction": _PER_IMAGE}
_FACTS: dict[str, type] = {"split": str, "seed": int, "calls": int}
