"""Places are those that paired tests leave open: against another way to Holm's, and on scores of known order."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from fewstep.report.differences import Difference, seeds_difference
from fewstep.report.estimates import Estimate
from fewstep.report.league.ranks import half_width, p_value, ranks

NAMES = ["a", "b", "c", "d", "e"]


def estimate(values: np.ndarray) -> Estimate:
    """One training seed, several sampling seeds."""
    return Estimate({(0, seed): float(value) for seed, value in enumerate(values)})


def places(scores: np.ndarray) -> list[tuple[int, int]]:
    """Of the rows of scores [contenders, seeds]."""
    found = {name: estimate(row) for name, row in zip(NAMES, scores, strict=False)}
    return [*ranks([*found], lambda a, b: seeds_difference(found[a], found[b])).values()]


def by_adjusted_p_values(scores: np.ndarray) -> list[tuple[int, int]]:
    """The same from Holm's adjusted p-values, the largest (m − i) p_(i) so far, of SciPy's paired t-test."""
    n = len(scores)
    pairs = [*itertools.combinations(range(n), 2)]
    p = np.array([ttest_rel(scores[i], scores[j]).pvalue for i, j in pairs])
    order = p.argsort()
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    best, worst = [1] * n, [n] * n
    for (i, j), value in zip(pairs, adjusted, strict=True):
        if value <= 0.05:
            low, high = (i, j) if scores[i].mean() < scores[j].mean() else (j, i)
            best[high] += 1
            worst[low] -= 1
    return [*zip(best, worst, strict=True)]


@pytest.mark.parametrize("spread", [0.02, 0.1, 0.5])
def test_places_are_what_pairwise_tests_leave_open(spread: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.normal(size=5) + spread * generator.normal(size=(5, 5)).T
        assert places(scores.T) == by_adjusted_p_values(scores.T)


def test_noise_that_all_share_does_not_blur_places() -> None:
    generator = np.random.default_rng(1)
    own, shared = 0.01 * generator.normal(size=(4, 5)), 10 * generator.normal(size=5)
    assert places(np.array([[0.0], [1.0], [2.0], [3.0]]) + own + shared) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_who_cannot_be_told_apart_ties() -> None:
    generator = np.random.default_rng(2)
    true = np.array([[0.0], [5.0], [5.0], [5.0], [9.0]])
    found = places(true + 0.1 * generator.normal(size=(5, 6)))
    assert found == [(1, 1), (2, 4), (2, 4), (2, 4), (5, 5)]
    assert [place.text for place in found] == ["1", "2–4", "2–4", "2–4", "5"]


def test_all_true_places_are_held_at_once_as_often_as_is_said() -> None:
    """Three of five are equal, so that a wrong distinction is easily made; 95 % less three binomial errors."""
    generator = np.random.default_rng(3)
    true = np.array([0.0, 0.0, 0.0, 1.0, 2.0])
    lowest = [(true < value).sum() + 1 for value in true]
    highest = [(true <= value).sum() for value in true]
    repeats, held = 200, 0
    for _ in range(repeats):
        found = places(true[:, None] + generator.normal(size=(5, 5)))
        held += all(
            best <= low and high <= worst for (best, worst), low, high in zip(found, lowest, highest, strict=True)
        )
    assert held / repeats > 0.95 - 3 * math.sqrt(0.05 * 0.95 / repeats)


def test_one_seed_or_an_unknown_error_tells_nobody_apart() -> None:
    assert places(np.array([[1.0], [2.0], [9.0]])) == [(1, 3)] * 3
    assert [*ranks(["a", "b"], lambda a, b: Difference(3.0, None)).values()] == [(1, 2), (1, 2)]
    assert [*ranks(["a", "b"], lambda a, b: None).values()] == [(1, 2), (1, 2)]
    assert half_width(Difference(3.0, None)) is None


def test_equal_schedules_tie_and_a_constant_difference_does_not() -> None:
    scores = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.5, 2.5, 4.5]])
    assert places(scores) == [(1, 2), (1, 2), (3, 3)]


def test_intervals_are_students_over_seeds_and_normal_over_images() -> None:
    assert half_width(Difference(1.0, 0.1, 5)) == pytest.approx(0.1 * 2.776, abs=1e-4)
    assert half_width(Difference(1.0, 0.1)) == pytest.approx(0.1 * 1.960, abs=1e-4)
    # An interval that ends at zero is a test that just rejects.
    assert p_value(Difference(0.2776445, 0.1, 5)) == pytest.approx(0.05, abs=1e-6)
    assert p_value(Difference(0.1959964, 0.1)) == pytest.approx(0.05, abs=1e-6)
