"""How far samples lie from what many steps make of the same noise, image by image."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from fewstep.errors import UserError


class MeanDistance(NamedTuple):
    """The mean of a distance over images, and its standard error (NaN for a single image)."""

    value: float
    standard_error: float


class FineStepDistance(Metric):
    """Distances between two samples of each image, in pixels and in features; paired by the image's index.

    In pixels it is the root mean square over them, on the [-1, 1] scale; in features Euclidean. Every image's
    number is kept at the image's index, so that the means have the same bits on any number of devices.

    Args:
        n_images: how many images are compared.
    """

    full_state_update = False
    pixels: Tensor
    features: Tensor
    seen: Tensor

    def __init__(self, n_images: int) -> None:
        super().__init__()
        for name in ("pixels", "features", "seen"):
            self.add_state(name, torch.zeros(n_images, dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(
        self, images: Tensor, features: Tensor, fine_images: Tensor, fine_features: Tensor, indices: Tensor
    ) -> None:
        """Add images [B, …] with their features [B, d], and their counterparts; `indices` [B] from 0."""
        self.pixels[indices] = (images - fine_images).double().flatten(1).square().mean(1).sqrt().to(self.pixels)
        self.features[indices] = (features.double() - fine_features.double()).norm(dim=1).to(self.features)
        self.seen[indices] = 1

    def compute(self) -> tuple[MeanDistance, MeanDistance]:
        """The mean distance in pixels, and in features.

        Raises:
            UserError: an image was not compared.
        """
        if not self.seen.all():
            raise UserError(f"Only {int(self.seen.sum())} of {len(self.seen)} images were compared.")
        return _mean(self.pixels), _mean(self.features)


def _mean(values: Tensor) -> MeanDistance:
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else math.nan
    return MeanDistance(values.mean().item(), error)
