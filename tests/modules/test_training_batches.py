"""Training data that belong to (seed, iteration), whatever device or resumed run asks for them."""

import math
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.modules import training
from fewstep.modules.training import TrainingBatches
from fewstep.process import Process
from fewstep.time_distribution import UniformTimes

PROCESS = Process.cosine(40, 1 / 16)


def numbered(n: int) -> Tensor:
    """Image i is all i."""
    return torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 2, 2)


def batches(n: int = 10, batch_size: int = 4, seed: int = 0) -> TrainingBatches:
    return TrainingBatches(numbered(n), UniformTimes(PROCESS), batch_size, seed)


def rows(data: TrainingBatches, iterations: int) -> list[int]:
    return torch.cat([data.batch(i)[0][:, 0, 0, 0] for i in range(iterations)]).int().tolist()


@given(st.integers(0, 10_000), st.integers(0, 2**31))
def test_a_batch_is_a_function_of_seed_and_iteration(iteration: int, seed: int) -> None:
    data = batches(seed=seed)
    data.batch(3)
    for mine, again in zip(data.batch(iteration), batches(seed=seed).batch(iteration), strict=True):
        assert torch.equal(mine, again)


def test_a_resumed_run_draws_what_an_unbroken_one_would() -> None:
    unbroken = list(islice(iter(batches()), 9))
    resumed = batches()
    resumed.first = 5
    for mine, theirs in zip(islice(iter(resumed), 4), unbroken[5:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 100))
def test_every_epoch_is_a_permutation(n: int, batch_size: int, seed: int) -> None:
    """Also where an epoch ends within a batch, or a batch holds several epochs."""
    seen = rows(batches(n, batch_size, seed), -(-4 * n // batch_size))
    for epoch in range(4):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = rows(batches(50, 10, seed=0), 10)
    assert first[:50] != first[50:]
    assert first != rows(batches(50, 10, seed=1), 10)


def test_times_are_stratified_and_uniform() -> None:
    """One quantile in every one of batch_size equal strata, in random order."""
    data = batches(batch_size=8)
    quantiles = torch.stack([data.batch(i)[1] for i in range(400)])
    assert quantiles.dtype == torch.float64
    strata = (quantiles * 8).floor()
    assert torch.equal(strata.sort(1).values, torch.arange(8).expand(400, 8).double())
    inside = quantiles * 8 - strata
    for sample in (quantiles[:, 0], quantiles[:, 5], inside[:, 0]):
        assert abs(sample.mean().item() - 0.5) < 4 / math.sqrt(12 * 400)
    assert abs(np.corrcoef(quantiles[:, 0], quantiles[:, 1])[0, 1] + 1 / 7) < 4 / 20


def test_the_last_stratum_stays_below_one() -> None:
    """A batch whose offset, 0.9999966, rounds to 1 in float32 beside the number of its stratum, 255."""
    data = TrainingBatches(torch.zeros(3, 1, 1, 1), UniformTimes(PROCESS), 256, seed=0)
    quantiles = data.batch(17_665)[1]
    assert 0.99999 < quantiles.max() < 1
    assert data.times.draw(quantiles).t.max() == 1


def test_noise_is_normal_and_new_in_every_iteration() -> None:
    noise = torch.stack([batches(batch_size=16).batch(i)[2].flatten() for i in range(100)]).double()
    n = noise.numel()
    assert abs(noise.mean().item()) < 4 / math.sqrt(n)
    assert abs(noise.square().mean().item() - 1) < 4 * math.sqrt(2 / n)
    correlation = np.corrcoef(noise) - np.eye(100)
    assert np.abs(correlation).max() < 5.5 / 8
    assert np.sqrt((correlation**2).mean()) == pytest.approx(1 / 8, rel=0.1)


def test_devices_share_a_batch_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(batch_size=7).batch(3)
    monkeypatch.setattr(training, "world", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(training, "rank", lambda rank=rank: rank)
        for part, everything in zip(batches(batch_size=7).batch(3), whole, strict=True):
            assert torch.equal(part, everything[rank::3])
