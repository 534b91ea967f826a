"""The kernel distance against its definition, written out, and its standard error against replicates."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.metrics.kid import KernelDistance


def features(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def measured(reference: Tensor, judged: Tensor, order: Tensor | None = None, batch: int = 7) -> KernelDistance:
    metric = KernelDistance(reference, len(judged))
    for part in (torch.arange(len(judged)) if order is None else order).split(batch):
        metric.update(judged[part], part)
    return metric


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    """Bińkowski et al. 2018, eq. 4: means of k over pairs of different images, minus twice that over all pairs."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / len(a) + 1) ** 3

    within = [np.mean([k(a, b) for a, b in permutations(z, 2)]) for z in (x, y)]
    return float(sum(within) - 2 * np.mean([k(a, b) for a, b in product(x, y)]))


def test_the_mean_over_subsets_that_share_no_image() -> None:
    """43 images and 52 of the reference in ten subsets of four: every tenth image each."""
    reference, judged = features(52, 3, 0), features(43, 3, 1, shift=0.4)
    values = [
        unbiased(reference[i::10][:4].double().numpy(), judged[i::10][:4].double().numpy()) for i in range(10)
    ]
    value, error = measured(reference, judged).compute()["kid"]
    assert value == pytest.approx(np.mean(values), rel=1e-9)
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(10), rel=1e-9)


def test_many_images_are_taken_in_subsets_of_a_thousand() -> None:
    """11,500 images make eleven of them, which leaves out what comes after the first 11,000 on either side."""
    reference, judged = features(11_500, 2, 0), features(11_999, 2, 1, shift=0.1)
    whole = measured(reference, judged, batch=4000).compute()["kid"].value
    assert measured(reference[:11_000], judged[:11_000], batch=4000).compute()["kid"].value == whole
    changed = judged.clone()
    changed[11_000:] = 1e3
    assert measured(reference, changed, batch=4000).compute()["kid"].value == pytest.approx(whole)


def test_order_and_batches_do_not_matter() -> None:
    reference, judged = features(40, 3, 0), features(30, 3, 1)
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert measured(reference, judged, shuffled, batch=4).compute() == measured(reference, judged).compute()


def test_it_is_unbiased_and_its_error_is_the_spread_of_replicates() -> None:
    """Of two samples of one distribution; the spread of 120 is known to 6 %."""
    values, errors = [], []
    for seed in range(120):
        value, error = measured(features(60, 3, 2 * seed), features(60, 3, 2 * seed + 1), batch=60).compute()[
            "kid"
        ]
        values.append(value)
        errors.append(error)
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values)) < 4 * spread / math.sqrt(120)
    assert min(values) < 0 < max(values)
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.25)


def test_too_few_images_or_not_all() -> None:
    with pytest.raises(UserError, match="kid needs at least 20 images on either side, but there are 19 and 30"):
        KernelDistance(features(30, 3, 0), 19)
    with pytest.raises(UserError, match="there are 30 and 19 of the reference"):
        KernelDistance(features(19, 3, 0), 30)
    metric = KernelDistance(features(30, 3, 0), 25)
    metric.update(features(24, 3, 1), torch.arange(24))
    with pytest.raises(UserError, match="Only 24 of 25 images were judged"):
        metric.compute()
