"""Mean and covariance of features, from sums that any number of devices add up."""

import torch
from torch import Tensor
from torchmetrics import Metric

from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments


class FeatureSums(Metric):
    """The moments of features [n, d] that need not fit into memory; float64 sums about zero.

    Args:
        num_features: d.
    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        d = num_features
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(d, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.set_dtype(torch.float64)

    def update(self, features: Tensor, indices: Tensor) -> None:
        """Add the features [B, d] of the images `indices` [B]; which images they are does not matter."""
        features = features.to(torch.float64)
        self.count += len(features)
        self.total += features.sum(0)
        self.products += features.T @ features

    def moments(self) -> FeatureMoments:
        """The moments, on the CPU; torchmetrics computes nothing but plain tensors and numbers."""
        mean, covariance, n = self.compute()
        return FeatureMoments(mean.cpu(), covariance.cpu(), n)

    def compute(self) -> tuple[Tensor, Tensor, int]:
        """Mean [d], covariance [d, d], which divides by n − 1, and n."""
        n = int(self.count)
        if n < 2:
            raise UserError(f"The covariance of features needs at least two images; there are {n}.")
        mean = self.total / n
        return mean, (self.products - n * torch.outer(mean, mean)) / (n - 1), n
