"""`DenoisingError`: per-image sums at the grid's timesteps, all that the ELBO needs of a model; and their file.

Behind a search only their means over images are kept, as one image that stands for all: tables are made of means,
and of thousands of images at thousands of timesteps the sums would fill any memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.fraction_sums import FractionSums
from fewstep.statistics.pair_decoder import PairDecoder
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics
from fewstep.statistics.tanh_decoder import TanhDecoder
from fewstep.statistics.variance_decoder import VarianceDecoder
from fewstep.variance import LearnedVariance, OptimalVariance, Variance, make_variance, no_variance_head


@dataclass(frozen=True, kw_only=True)
class DenoisingError:
    """Per-image sums at N grid timesteps, float64, nats.

    Attributes:
        process: the process of the model.
        indices: the grid indices, ascending, [N].
        error: ‖x_0 − x̂_0‖² [N, images].
        decoder_of_process: −log p(x_0 | x_t) [N, images] with the decoder variance of `posterior` and `beta`.
        decoder_of_error: the same with the variance of `optimal`, fitted_error.
        decoder_of_fraction: the same with the variance of `learned`; None where the network has no variance head.
        fraction: what the learned variance's KL needs; None where the network has no variance head.
        pairs: the decoder's term by the first two nodes; None for the additive decoder.
        fitted_error: e(t)/D [N] of the split on which `optimal` is fitted; the own mean on that split.
        prior: KL(q(x_1 | x_0) ‖ p(x_1)) [images].
        dimensions: D = C·H·W.
        levels: number of grey levels of the data.
        split: the split that the images are of; `fitted_split`: the one behind fitted_error.
        noise: `common`, one ε per image for all timesteps, or `fresh`, one per image and timestep.
        seed: of the noise.
        calls: evaluations of the network, images × timesteps.
        kind: the kind of statistics, as objectives name it.
        by_variance: what lets other images join (fewstep.statistics.joining); kept in no file.
        tanh: the first step's term in improved-diffusion's own arithmetic; kept in a file of its own.
        error_spread: of means, the standard deviation of ‖x_0 − x̂_0‖² over images [N]; None where every image has
            its own sums.
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
    noise: str = "common"
    kind: str = "denoising_error"
    decoder_of_fraction: Tensor | None = None
    fraction: FractionSums | None = None
    pairs: PairDecoder | None = None
    by_variance: VarianceDecoder | None = None
    tanh: TanhDecoder | None = None
    error_spread: Tensor | None = None

    @property
    def times(self) -> Tensor:
        """float64 [N], the times of `indices`."""
        return self.process.grid[self.indices]

    @property
    def n_images(self) -> int:
        """Number of images, those behind means too."""
        return self.error.shape[1] if self.error_spread is None else self.calls // len(self.indices)

    @property
    def spread(self) -> Tensor:
        """The standard deviation of ‖x_0 − x̂_0‖² over images, [N]; that of one image is 0."""
        if self.error_spread is not None:
            return self.error_spread
        return self.error.std(1) if self.error.shape[1] > 1 else torch.zeros_like(self.error[:, 0])

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
        """−log p(x_0 | x_t) [N, images] under the additive decoder of a variance kind.

        Raises:
            UserError: `learned` of a network without a variance head.
        """
        if kind == LearnedVariance.name:
            self.fraction_sums()
            assert self.decoder_of_fraction is not None
            return self.decoder_of_fraction
        return self.decoder_of_error if kind == OptimalVariance.name else self.decoder_of_process

    def fraction_sums(self) -> FractionSums:
        """What the learned variance's KL needs.

        Raises:
            UserError: the network has no variance head.
        """
        if self.fraction is None:
            raise no_variance_head()
        return self.fraction

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        facts = {name: getattr(self, name) for name in _FACTS}
        write_statistics(path, self.kind, self.process, self._tensors(), facts)

    @classmethod
    def load(cls, path: Path, kind: str = "denoising_error") -> "DenoisingError":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, of another kind, or holds what no measurement gives.
        """
        process, tensors, facts = read_statistics(path, kind, _SIZES, _FACTS, _OPTIONAL_SIZES)
        incomplete = {name in tensors for name in _OF_FRACTION} == {True, False}
        if incomplete or ("pairs.of_fraction" in tensors and "pairs.of_process" not in tensors):
            raise UserError(f"The statistics file {path} holds some tensors of a learned variance, but not all.")
        if min(facts["dimensions"], facts["levels"] - 1) < 1:
            raise UserError(f"The statistics file {path} must be of at least 1 dimension and 2 grey levels.")
        if bool((tensors["error"] < 0).any()) or not bool((tensors["fitted_error"] > 0).all()):
            raise UserError(f"The statistics file {path} holds an error that is negative, or fitted on nothing.")
        spread = tensors.get("error_spread")
        if spread is not None and (tensors["error"].shape[1] > 1 or bool((spread < 0).any())):
            raise UserError(f"The statistics file {path} holds what cannot be means and their spread.")
        required: dict[str, Any] = {name: tensors[name] for name in _SIZES}
        return cls(
            process=process,
            kind=kind,
            **facts,
            **required,
            decoder_of_fraction=tensors.get("decoder_of_fraction"),
            error_spread=spread,
            fraction=_fraction_sums(tensors),
            pairs=_pair_decoder(tensors),
        )

    def _tensors(self) -> dict[str, Tensor]:
        names = (*_SIZES, "decoder_of_fraction", "error_spread")
        parts: dict[str, Tensor | None] = {name: getattr(self, name) for name in names}
        for part in _PARTS:
            if getattr(self, part) is not None:
                parts |= {f"{part}.{name}": tensor for name, tensor in vars(getattr(self, part)).items()}
        return {name: tensor for name, tensor in parts.items() if tensor is not None}


def _fraction_sums(tensors: Mapping[str, Tensor]) -> FractionSums | None:
    if "fraction.centre" not in tensors:
        return None
    return FractionSums(
        centre=tensors["fraction.centre"],
        coefficients=tensors["fraction.coefficients"],
        mean=tensors["fraction.mean"],
    )


def _pair_decoder(tensors: Mapping[str, Tensor]) -> PairDecoder | None:
    if "pairs.of_process" not in tensors:
        return None
    return PairDecoder(of_process=tensors["pairs.of_process"], of_fraction=tensors.get("pairs.of_fraction"))


_PER_IMAGE: Sizes = ("timesteps", "images")
_SIZES: dict[str, Sizes] = {
    "indices": ("timesteps",),
    "error": _PER_IMAGE,
    "decoder_of_process": _PER_IMAGE,
    "decoder_of_error": _PER_IMAGE,
    "fitted_error": ("timesteps",),
    "prior": ("images",),
}
_OF_FRACTION: dict[str, Sizes] = {
    "decoder_of_fraction": _PER_IMAGE,
    "fraction.centre": ("timesteps",),
    "fraction.coefficients": ("timesteps", "points of fraction", 2, "images"),
    "fraction.mean": ("timesteps", "points of fraction", 2),
}
_OPTIONAL_SIZES: dict[str, Sizes] = _OF_FRACTION | {
    "pairs.of_process": ("timesteps", "points of pairs", "images"),
    "pairs.of_fraction": ("timesteps", "points of learned pairs", "images"),
    "error_spread": ("timesteps",),
}
_PARTS = ("fraction", "pairs")
_FACTS: dict[str, type] = {
    "dimensions": int,
    "levels": int,
    "split": str,
    "fitted_split": str,
    "seed": int,
    "calls": int,
    "noise": str,
}
