"""The paired difference against SciPy's paired t test."""

import math

import numpy as np
import pytest
from scipy import stats

from fewstep.report.estimates import Estimate
from fewstep.report.paired import paired_difference


def estimate(values: np.ndarray, train_seed: int = 0) -> Estimate:
    return Estimate(values={(train_seed, seed): float(value) for seed, value in enumerate(values)})


@pytest.mark.parametrize("n", [2, 5, 9])
def test_interval_is_that_of_the_paired_t_test(n: int) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n))
    found = paired_difference(estimate(a), estimate(b))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.seeds == n
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(interval))


def test_a_claim_needs_five_seeds_and_an_interval_without_zero() -> None:
    base = np.array([3.0, 4.0, 2.0, 5.0, 1.0])
    shifted = base + 1 + 0.01 * np.arange(5)
    assert paired_difference(estimate(shifted), estimate(base)).is_claim
    assert not paired_difference(estimate(shifted[:4]), estimate(base[:4])).is_claim
    assert not paired_difference(estimate(base + np.array([1, -1, 1, -1, 1])), estimate(base)).is_claim


def test_sampling_seeds_of_several_networks_are_not_independent() -> None:
    a = Estimate(values={(t, s): t + 10.0 * s for t in range(3) for s in range(2)})
    b = Estimate(values={(t, s): 0.0 for t in range(3) for s in range(2)})
    found = paired_difference(a, b)
    assert found.seeds == 3
    assert found.mean == pytest.approx(6.0)
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 1 / math.sqrt(3))


def test_one_seed_says_nothing_and_none_is_an_error() -> None:
    assert paired_difference(estimate(np.ones(1)), estimate(np.zeros(1))).half_width == math.inf
    with pytest.raises(ValueError, match="share no seeds"):
        paired_difference(estimate(np.ones(1), 0), estimate(np.ones(1), 1))
