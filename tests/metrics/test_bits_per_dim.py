"""Bits per dimension against NumPy."""

import math

import numpy as np
import pytest
import torch

from fewstep.errors import UserError
from fewstep.metrics.bits_per_dim import BitsPerDim


def nats(n: int) -> torch.Tensor:
    return 80 + 9 * torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("batches", [[100], [1] * 100, [37, 1, 62]])
def test_mean_and_standard_error_are_numpys(batches: list[int]) -> None:
    metric = BitsPerDim(48)
    for batch in nats(100).split(batches):
        metric.update(batch)
    bits = nats(100).numpy() / (48 * math.log(2))
    value, standard_error = metric.compute()
    assert value == pytest.approx(bits.mean(), rel=1e-13)
    assert standard_error == pytest.approx(bits.std(ddof=1) / 10, rel=1e-10)
    metric.reset()
    metric.update(nats(100)[:5])
    assert metric.compute()[0] == pytest.approx(bits[:5].mean(), rel=1e-13)


def test_two_devices_sum_to_one() -> None:
    whole, first, second = BitsPerDim(48), BitsPerDim(48), BitsPerDim(48)
    whole.update(nats(60))
    first.update(nats(60)[0::2])
    second.update(nats(60)[1::2])
    for name in ("count", "total", "squares"):
        setattr(first, name, getattr(first, name) + getattr(second, name))
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-12)


def test_equal_images_have_no_spread_and_one_image_has_no_error() -> None:
    metric = BitsPerDim(3)
    metric.update(torch.full((50,), 7.7))
    assert metric.compute()[1] == pytest.approx(0, abs=1e-7)
    metric.reset()
    metric.update(torch.tensor([3 * math.log(2)], dtype=torch.float64))
    value, standard_error = metric.compute()
    assert value == pytest.approx(1)
    assert np.isnan(standard_error)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_images_are_a_sentence() -> None:
    with pytest.raises(UserError, match="at least one image"):
        BitsPerDim(3).compute()
