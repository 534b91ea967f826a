"""Divide and conquer where the quadrangle inequality holds: the same values, to the last bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.process import Process
from fewstep.search import dp
from fewstep.search.dp import optimal_paths
from fewstep.search.kernels import min_plus, monotone, quadrangle

INF = math.inf


def product_table(size: int, seed: int, ties: bool = False) -> np.ndarray:
    """½ (SNR_s − SNR_t) e_t with SNR falling and e rising, and any costs in row 0, some of them forbidden."""
    rng = np.random.default_rng(seed)
    draw = (lambda: rng.integers(0, 2, size).astype(float)) if ties else (lambda: rng.random(size))
    error, snr = np.cumsum(draw()), np.cumsum(draw())[::-1]
    costs = 0.5 * (snr[:, None] - snr) * error
    costs[0] = np.where(rng.random(size) < 0.1, INF, rng.uniform(-size, size, size))
    costs[np.tril_indices(size)] = INF
    return costs


def filled(costs: np.ndarray, most: int, way: str) -> np.ndarray:
    """C[k, t] for k = 1 .. most + 1, by one of the two ways; [most + 1, M+1]."""
    begun = costs[0].copy()
    begun[0] = INF
    least = min_plus.LeastCosts.begin(begun, most)
    if way == "monotone":
        monotone.fill(costs, least)
    else:
        min_plus.fill(costs, least, 1)
    values = np.full((most + 1, least.blocks * min_plus.WIDTH), INF)
    for j in range(least.blocks):
        rows = least.block(j)[: most + 1]
        values[: len(rows), j * min_plus.WIDTH : (j + 1) * min_plus.WIDTH] = rows
    return values


def inequality_by_definition(costs: np.ndarray) -> bool:
    """All 1 <= a < b < c < d in exact rational arithmetic; False where a cost is infinite."""
    size = len(costs)
    for a in range(1, size):
        for b in range(a + 1, size):
            for c in range(b + 1, size):
                for d in range(c + 1, size):
                    four = [costs[a, c], costs[b, d], costs[a, d], costs[b, c]]
                    if not np.isfinite(four).all():
                        return False
                    p, q, r, u = map(Fraction, four)
                    if p + q > r + u:
                        return False
    return True


@st.composite
def nearly_monotone(draw: st.DrawFn) -> np.ndarray:
    """A small table on the edge of the inequality: many equalities, some entries off by one unit or infinite."""
    size = draw(st.integers(2, 7))
    costs = product_table(size, draw(st.integers(0, 1000)), ties=draw(st.booleans())) + draw(
        st.sampled_from([0.0, 0.1, 1 / 3])
    )
    for _ in range(draw(st.integers(0, 2))):
        t = draw(st.integers(1, size - 1))
        s = draw(st.integers(0, t - 1))
        costs[s, t] = draw(
            st.sampled_from([math.nextafter(costs[s, t], -INF), math.nextafter(costs[s, t], INF), INF])
        )
    return costs


@settings(max_examples=300, deadline=None)
@given(nearly_monotone())
def test_the_check_is_exact_and_neighbours_suffice(costs):
    assert quadrangle.holds(costs) == inequality_by_definition(costs)


def test_one_unit_in_the_last_place_breaks_the_inequality():
    """0.1 + 0.7 and 0.3 + 0.5 round alike, to 0.8, but as float64 numbers they are not equal."""
    costs = np.full((5, 5), INF)
    costs[1, 3], costs[2, 4], costs[1, 4], costs[2, 3] = 0.1, 0.7, 0.3, 0.5
    costs[1, 2] = costs[3, 4] = 0.0
    left, right = Fraction(0.1) + Fraction(0.7), Fraction(0.3) + Fraction(0.5)
    assert pytest.approx(0.8, abs=1e-15) == 0.1 + 0.7
    assert left != right
    assert quadrangle.holds(costs) == (left < right)
    costs[[1, 2, 1, 2], [3, 4, 4, 3]] = 0.3, 0.5, 0.1, 0.7
    assert quadrangle.holds(costs) == (right < left)


def test_costs_whose_sums_overflow_are_not_held_to_satisfy_it():
    costs = product_table(6, 0)
    costs[1, 3] = costs[2, 4] = costs[1, 4] = costs[2, 3] = 1.5e308
    assert not quadrangle.holds(costs)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5, 63, 64, 65, 66, 127, 128, 129, 193, 330])
def test_the_values_are_those_of_the_full_recursion_to_the_last_bit(size, ties):
    for seed in range(8):
        costs = product_table(size, seed, ties)
        if quadrangle.holds(costs):
            most = min(size - 2, 40)
            assert np.array_equal(filled(costs, most, "monotone"), filled(costs, most, "min_plus"))
        else:
            assert not ties, "costs of multiples of one half are exact, and satisfy the inequality"


def test_rounding_that_ties_unequal_sums_changes_nothing():
    """Costs of 1e16 and less than one unit in its last place: nearly all sums round to the same."""
    size = 200
    index = np.arange(size, dtype=float)
    costs = (index - index[:, None]) ** 2 * 2.0**-8
    costs[0] = 2.0**53
    costs[np.tril_indices(size)] = INF
    assert quadrangle.holds(costs)
    assert np.array_equal(filled(costs, 60, "monotone"), filled(costs, 60, "min_plus"))


def test_the_table_of_the_posterior_variance_satisfies_it_where_the_error_rises():
    """L(s, t) = ½ (SNR(s) − SNR(t)) e(t) (Watson et al. 2021), with e(t) of Gaussian data; then with a dip."""
    process = Process.cosine(300)
    snr = process.log_snr(process.grid).exp().numpy()[1:]
    error = 1 / (1 + snr)
    costs = np.full((301, 301), INF)
    costs[1:, 1:] = 0.5 * (snr[:, None] - snr) * error
    costs[0] = 1.0
    costs[np.tril_indices(301)] = INF
    assert quadrangle.holds(costs)
    costs[1:, 150] *= 0.5
    assert not quadrangle.holds(costs)


def test_optimal_paths_are_the_same_with_and_without_it(monkeypatch):
    costs = torch.from_numpy(product_table(400, 3))
    assert quadrangle.holds(costs.numpy())
    full = optimal_paths(costs, range(1, 120))
    used = []
    fill = monotone.fill
    monkeypatch.setattr(monotone, "fill", lambda *given: used.append(1) or fill(*given))
    monkeypatch.setattr(dp, "MONOTONE_INDICES_PER_THREAD", 0)
    assert optimal_paths(costs, range(1, 120)) == full
    assert used
    costs[100, 200] += 1
    used.clear()
    optimal_paths(costs, range(1, 120))
    assert not used
