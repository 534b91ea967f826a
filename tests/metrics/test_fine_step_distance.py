"""Distances between two samples of each image: closed forms, however images are shared out."""

import math

import pytest
import torch

from fewstep.errors import UserError
from fewstep.metrics.fine_step_distance import FineStepDistance


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 1, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_shift_of_all_pixels_is_its_own_distance_and_features_are_euclidean() -> None:
    metric = FineStepDistance(3)
    shift, mine = torch.tensor([0.1, 0.2, 0.6], dtype=torch.float64), images(3, 0)
    moved = mine + shift[:, None, None, None]
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]])
    metric.update(moved, features, mine, torch.zeros(3, 2), torch.arange(3))
    pixels, in_features = metric.compute()
    assert pixels.value == pytest.approx(0.3)
    assert pixels.standard_error == pytest.approx(shift.std().item() / math.sqrt(3))
    assert in_features.value == pytest.approx(2.0)
    assert in_features.standard_error == pytest.approx(torch.tensor([5.0, 0.0, 1.0]).std().item() / math.sqrt(3))


def test_no_bit_depends_on_how_images_are_shared_out() -> None:
    a, b = images(7, 1), images(7, 2)
    whole, parts = FineStepDistance(7), FineStepDistance(7)
    whole.update(a, a.flatten(1), b, b.flatten(1), torch.arange(7))
    for rows in ([5, 6], [0, 3, 1], [4, 2]):
        chosen = torch.tensor(rows)
        x, y = a[chosen], b[chosen]
        parts.update(x, x.flatten(1), y, y.flatten(1), chosen)
    assert whole.compute() == parts.compute()


def test_images_that_were_not_compared_are_missed() -> None:
    metric = FineStepDistance(4)
    a = images(2, 0)
    metric.update(a, a.flatten(1), a, a.flatten(1), torch.arange(2))
    with pytest.raises(UserError, match="Only 2 of 4 images were compared"):
        metric.compute()
