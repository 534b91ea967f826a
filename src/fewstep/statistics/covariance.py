"""The data's mean and covariance, and the linear (Wiener) denoiser that follows from them; no network call.

The Wiener denoiser is the best linear one; a network whose e(t) is above its error at some t is worse there
than a linear filter, and misleads every objective.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics

KIND = "covariance"


@dataclass(frozen=True)
class DataCovariance:
    """Mean [D], eigenvalues c_j² [D] ascending and eigenvectors [D, D] (columns) of the covariance, float64."""

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "DataCovariance":
        """The covariance of images [N, C, H, W], divided by N − 1."""
        flat = images.to(torch.float64).flatten(1)
        eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(flat.T))
        return cls(flat.mean(0), eigenvalues.clamp(min=0), eigenvectors)

    def wiener_error(self, images: Tensor, noise: Tensor, noise_levels: Tensor) -> Tensor:
        """E‖x_0 − x̂_0‖² of the Wiener denoiser on these very images and noises, float64 [M], one per level.

        In the covariance's basis x̂_0 − μ = g (a + σ̄ b), g = c²/(c² + σ̄²), for x_0 − μ = a and noise b; the sums
        of a², ab and b² over images serve every noise level σ̄ = σ/α.

        Args:
            images: [N, C, H, W].
            noise: of the same shape.
            noise_levels: float64 [M]; +∞ is the mean of the images as x̂_0.
        """
        a = (images.to(torch.float64).flatten(1) - self.mean) @ self.eigenvectors
        b = noise.to(torch.float64).flatten(1) @ self.eigenvectors
        aa, ab, bb = (a * a).mean(0), (a * b).mean(0), (b * b).mean(0)
        levels = noise_levels[:, None]
        gain = self.eigenvalues / (self.eigenvalues + levels.square())
        kept = torch.where(levels == math.inf, 0.0, gain * levels)
        return ((1 - gain).square() * aa - 2 * (1 - gain) * kept * ab + kept.square() * bb).sum(1)


@dataclass(frozen=True, kw_only=True)
class MeasuredCovariance:
    """The covariance of a split's images as statistics, for objectives that need no network.

    Attributes:
        process: the process of the model.
        data: the covariance.
        n_images: how many images it is of.
        split: the split that they are of.
        calls: evaluations of the network, 0.
    """

    process: Process
    data: DataCovariance
    n_images: int
    split: str
    calls: int = 0

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        write_statistics(path, KIND, self.process, vars(self.data), {name: getattr(self, name) for name in _FACTS})

    @classmethod
    def load(cls, path: Path) -> "MeasuredCovariance":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, of another kind, or holds what is no covariance.
        """
        process, tensors, facts = read_statistics(path, KIND, _SIZES, _FACTS)
        if bool((tensors["eigenvalues"] < 0).any()) or facts["n_images"] < 2:
            raise UserError(f"The statistics file {path} holds a negative variance, or is of fewer than 2 images.")
        return cls(process=process, data=DataCovariance(**tensors), **facts)


class CovarianceEstimator:
    """Measures `MeasuredCovariance`: one row of work, on the CPU.

    It wants all images of the split: they cost no network call, and fewer images than dimensions span too little.

    Args:
        images: [N, C, H, W], N at least 2.
        split: the split that they are of.
        labels, levels, indices, seed, batch_size, noise, fitted: what kinds that call a network are told; unused.

    Raises:
        UserError: fewer than 2 images.
    """

    whole_split = True

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        split: str,
        levels: int | None = None,
        indices: Sequence[int] = (),
        seed: int = 0,
        batch_size: int = 1,
        noise: str = "common",
        fitted: MeasuredCovariance | None = None,
    ) -> None:
        if len(images) < 2:
            raise UserError(f"A covariance needs at least 2 images; given were {len(images)}.")
        self.images = images.cpu()
        self.split = split

    def __len__(self) -> int:
        return 1

    def to(self, device: torch.device) -> None:
        """Nothing moves: the same numbers wherever the network runs."""

    def prepare(self, process: Process) -> None:
        """Nothing to prepare."""

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Tensor]:
        """Mean, eigenvalues and eigenvectors; the network is not looked at."""
        return dict(vars(DataCovariance.of(self.images)))

    def collect(self, process: Process, measured: Sequence[dict[str, Any]]) -> MeasuredCovariance:
        """The statistics from the one row that `measure` returned."""
        # Copies, because no gradient passes what was made in inference mode.
        tensors = {name: tensor.clone() for name, tensor in measured[0].items()}
        return MeasuredCovariance(
            process=process, data=DataCovariance(**tensors), n_images=len(self.images), split=self.split
        )


_SIZES: dict[str, Sizes] = {
    "mean": ("dimensions",),
    "eigenvalues": ("dimensions",),
    "eigenvectors": ("dimensions", "dimensions"),
}
_FACTS: dict[str, type] = {"n_images": int, "split": str}

# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = CovarianceEstimator
load = MeasuredCovariance.load
