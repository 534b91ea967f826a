"""What metrics of samples share that need every image's features, not their sums alone."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from fewstep.errors import UserError


class Measured(NamedTuple):
    """A value and its standard error (NaN where the images are too few to tell)."""

    value: float
    standard_error: float


class KeptFeatures(Metric):
    """Keeps features at their image's index, so that results have the same bits on any number of devices.

    A subclass states in `name` its word, as evaluation.sample_metrics has it, in `fewest` how many images it
    needs, and in `measures` what `compute` returns: the names, without underscores, and a sentence on each for
    reports. Features are float32: 0.41 GB for 50,000 images and d = 2048.

    Args:
        reference: features [m, d] of real images, float32.
        n_images: how many images are judged.

    Raises:
        UserError: there are fewer images, on either side, than the metric needs.
    """

    name: ClassVar[str]
    fewest: ClassVar[int]
    measures: ClassVar[Mapping[str, str]]

    full_state_update = False
    features: Tensor
    seen: Tensor

    def __init__(self, reference: Tensor, n_images: int) -> None:
        super().__init__()
        if min(n_images, len(reference)) < self.fewest:
            raise UserError(
                f"{self.name} needs at least {self.fewest} images on either side, but there are {n_images} and "
                f"{len(reference)} of the reference."
            )
        self.reference = reference
        self.add_state("features", torch.zeros(n_images, reference.shape[1]), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(n_images), dist_reduce_fx="sum")

    def update(self, features: Tensor, indices: Tensor) -> None:
        """Add the features [B, d] of the images `indices` [B], from 0."""
        self.features[indices] = features.to(self.features)
        self.seen[indices] = 1

    def judged(self) -> Tensor:
        """The features [n, d] of all images.

        Raises:
            UserError: an image is missing.
        """
        if not self.seen.all():
            raise UserError(f"Only {int(self.seen.sum())} of {len(self.seen)} images were judged.")
        return self.features

    @abstractmethod
    def compute(self) -> Mapping[str, Measured]:
        """Name of a measure → its value."""
