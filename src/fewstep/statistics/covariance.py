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

from fewstep.data.base import Images, blocks
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics

KIND = "covariance"
UNCHECKED = "wiener_unchecked_dimensions"  # the metric that tells of images beyond the next number
MOST_DIMENSIONS = 4096  # above, a matrix of eigenvectors and what finds them take gigabytes, and many minutes


@dataclass(frozen=True)
class DataCovariance:
    """Mean [D], eigenvalues c_j² [D] ascending and eigenvectors [D, D] (columns) of the covariance, float64."""

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, images: Images) -> "DataCovariance":
        """The covariance of images [N, C, H, W], divided by N − 1.

        Raises:
            UserError: more than `MOST_DIMENSIONS` dimensions.
        """
        check_dimensions(images.shape[1:])
        mean, covariance = _moments(images)
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
        return cls(mean, eigenvalues.clamp(min=0), eigenvectors)

    def wiener_error(self, images: Images, noise: Images, noise_levels: Tensor) -> Tensor:
        """E‖x_0 − x̂_0‖² of the Wiener denoiser on these very images and noises, float64 [M], one per level.

        In the covariance's basis x̂_0 − μ = g (a + σ̄ b), g = c²/(c² + σ̄²), for x_0 − μ = a and noise b; the sums
        of a², ab and b² over images serve every noise level σ̄ = σ/α.

        Args:
            images: [N, C, H, W].
            noise: of the same shape.
            noise_levels: float64 [M]; +∞ is the mean of the images as x̂_0.
        """
        sums = torch.zeros(3, len(self.mean), dtype=torch.float64)
        for rows in blocks(images):
            a = (images[rows].to(torch.float64).flatten(1) - self.mean) @ self.eigenvectors
            b = noise[rows].to(torch.float64).flatten(1) @ self.eigenvectors
            sums += torch.stack([(a * a).sum(0), (a * b).sum(0), (b * b).sum(0)])
        aa, ab, bb = sums / len(images)
        levels = noise_levels[:, None]
        gain = self.eigenvalues / (self.eigenvalues + levels.square())
        kept = torch.where(levels == math.inf, 0.0, gain * levels)
        return ((1 - gain).square() * aa - 2 * (1 - gain) * kept * ab + kept.square() * bb).sum(1)


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of images, float64; of several blocks by sums about the first one's mean."""
    first, *others = blocks(images)
    flat = images[first].to(torch.float64).flatten(1)
    if not others:
        return flat.mean(0), torch.cov(flat.T)
    near = flat.mean(0)
    total, products = torch.zeros_like(near), torch.zeros(len(near), len(near), dtype=torch.float64)
    for rows in (first, *others):
        centred = images[rows].to(torch.float64).flatten(1) - near
        total += centred.sum(0)
        products.addmm_(centred.T, centred)
    n = len(images)
    return near + total / n, (products - torch.outer(total, total) / n) / (n - 1)


def check_dimensions(shape: Sequence[int]) -> None:
    """Raise a UserError unless the covariance of images of a shape (C, H, W) can be had."""
    if math.prod(shape) > MOST_DIMENSIONS:
        raise UserError(
            f"The data's covariance takes images of at most {MOST_DIMENSIONS} dimensions; of shape "
            f"{list(shape)} they have {math.prod(shape)}. Leave out what needs it, such as gaussian_transport."
        )


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
        images: [N, C, H, W], N at least 2, read block by block.
        split: the split that they are of.
        labels, levels, indices, seed, batch_size, noise, fitted: what kinds that call a network are told; unused.

    Raises:
        UserError: fewer than 2 images, or more than `MOST_DIMENSIONS` dimensions.
    """

    whole_split = True

    def __init__(
        self,
        images: Images,
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
        check_dimensions(images.shape[1:])
        self.images = images.cpu() if isinstance(images, Tensor) else images
        self.split = split

    @staticmethod
    def network_calls(images: int, timesteps: int) -> int:
        """None."""
        return 0

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
