"""Bits per dimension over images, with the standard error of the mean."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from fewstep.errors import UserError
from fewstep.likelihood import bits_per_dim


class BitsPerDim(Metric):
    """The mean of per-image negative log-likelihoods, nats, in bits/dim, and its standard error over images.

    Args:
        dimensions: D = C·H·W.
        sync_on_compute: add up what the devices hold; False where each holds all images.
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, dimensions: int, *, sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.dimensions = dimensions
        for name in ("count", "total", "squares"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, nats: Tensor) -> None:
        """Add the images' nats, [B]."""
        bits = bits_per_dim(nats.to(torch.float64), self.dimensions)
        assert isinstance(bits, Tensor)
        self.count += len(bits)
        self.total += bits.sum()
        self.squares += bits.square().sum()

    def compute(self) -> tuple[float, float]:
        """The mean and its standard error (NaN for a single image)."""
        n = self.count.item()
        if n == 0:
            raise UserError("Bits per dimension need at least one image.")
        mean = self.total.item() / n
        if n == 1:
            return mean, math.nan
        variance = max(0.0, (self.squares.item() - n * mean**2) / (n - 1))
        return mean, math.sqrt(variance / n)
