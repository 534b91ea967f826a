"""Spearman's rho between an objective and a distance, its interval over seeds and its exact p-value."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from fewstep.report import rank_correlation as module
from fewstep.report.estimates import Estimate
from fewstep.report.rank_correlation import rank_correlation


def of_seeds(*values: float) -> Estimate:
    """An estimate with one value per sampling seed, of training seed 0."""
    pairs = {(0, seed): value for seed, value in enumerate(values)}
    return Estimate(values=pairs, errors=dict.fromkeys(pairs))


def alone(value: float) -> Estimate:
    """An objective's value, which has no sampling seed."""
    return Estimate(values={(0, None): value}, errors={(0, None): None})


def test_an_objective_that_orders_as_the_distance_does_has_rho_one_whatever_the_scale():
    objective = {"a": alone(1), "b": alone(10), "c": alone(1000), "d": alone(1e9)}
    distance = {"a": of_seeds(0.1, 0.2), "b": of_seeds(0.3, 0.4), "c": of_seeds(5, 6), "d": of_seeds(7, 8)}
    found = rank_correlation(objective, distance)
    assert found is not None
    assert (found.rho, found.low, found.high, found.schedules, found.seeds) == (1, 1, 1, 4, 2)
    assert found.p_value == pytest.approx(2 / 24)  # the order itself and its reverse
    assert not found.disagrees


def test_an_objective_that_reverses_the_distance_disagrees():
    objective = {name: alone(-value) for name, value in zip("abcd", range(4), strict=True)}
    distance = {name: of_seeds(value, value + 0.1) for name, value in zip("abcd", range(4), strict=True)}
    found = rank_correlation(objective, distance)
    assert found is not None
    assert found.rho == pytest.approx(-1)
    assert found.disagrees


@pytest.mark.parametrize("ties", [False, True])
def test_rho_is_scipys_and_the_p_value_that_of_all_orders_counted_one_by_one(ties: bool):
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 6))
    if ties:
        x, y = x.round(), y.round()
    names = "abcdef"
    found = rank_correlation(
        {name: alone(value) for name, value in zip(names, x, strict=True)},
        {name: of_seeds(value) for name, value in zip(names, y, strict=True)},
    )
    assert found is not None
    rho = spearmanr(x, y).statistic
    assert found.rho == pytest.approx(rho)
    orders = [spearmanr(x, y[list(order)]).statistic for order in permutations(range(6))]
    assert found.p_value == pytest.approx(np.mean(np.abs(orders) >= abs(rho) - 1e-9))
    assert np.isnan(found.low)  # one seed cannot say how rho varies over seeds


def test_the_sampled_p_value_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch):
    x, y = np.argsort(np.random.default_rng(5).normal(size=(2, 9)), axis=1) + 1.0
    exact = module._p_value(x, y)
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    assert module._p_value(x, y) == pytest.approx(exact, abs=4 * (exact / module.PERMUTATIONS) ** 0.5)


def test_the_interval_is_that_of_every_draw_of_two_seeds():
    objective = {"a": alone(0), "b": alone(1), "c": alone(2)}
    distance = {"a": of_seeds(0, 3), "b": of_seeds(1, 2), "c": of_seeds(2.5, 1)}  # seed 1 reverses seed 0
    found = rank_correlation(objective, distance)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(-1), pytest.approx(1))
    assert not found.disagrees


def test_with_more_training_than_sampling_seeds_the_networks_are_resampled_on_both_sides():
    """Within each network the objective is right; between networks both rise together."""
    names = "abc"
    objective = {
        name: Estimate(values={(seed, None): 10 * seed + i for seed in range(3)}, errors={})
        for i, name in enumerate(names)
    }
    distance = {
        name: Estimate(values={(seed, 0): 100 * seed + i for seed in range(3)}, errors={})
        for i, name in enumerate(names)
    }
    found = rank_correlation(objective, distance)
    assert found is not None
    assert (found.rho, found.low, found.high, found.seeds) == (
        pytest.approx(1),
        pytest.approx(1),
        pytest.approx(1),
        3,
    )


@pytest.mark.parametrize(
    ("objective", "distance"),
    [
        ({"a": alone(1), "b": alone(2)}, {"a": of_seeds(1), "b": of_seeds(2)}),
        ({"a": alone(1), "b": alone(2), "c": alone(3)}, {"a": of_seeds(1), "b": of_seeds(2), "d": of_seeds(3)}),
        ({name: alone(1) for name in "abc"}, {name: of_seeds(ord(name)) for name in "abc"}),
        ({}, {}),
    ],
    ids=["two schedules", "two shared", "all tied", "nothing"],
)
def test_nothing_to_rank_is_none(objective: dict[str, Estimate], distance: dict[str, Estimate]):
    assert rank_correlation(objective, distance) is None
