import itertools
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.costs import CostTable
from fewstep.errors import UserError
from fewstep.search import row_by_row
from fewstep.search.dp import optimal_paths

INF = math.inf


def table(size: int, seed: int = 0) -> torch.Tensor:
    """Random costs between -1 and 1, +inf unless s < t."""
    costs = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (size, size)))
    return costs.masked_fill(torch.ones(size, size, dtype=torch.bool).tril(), INF)


def total(costs: torch.Tensor, path: list[int]) -> float:
    return CostTable(torch.arange(len(costs), dtype=torch.float64), costs, "nats/example").total(path)


def best_by_enumeration(costs: list[list[float]], steps: int, start: int) -> tuple[float, list[int]]:
    """The path of least total; of several, the one with the smallest indices, compared from the end."""
    last = len(costs) - 1
    paths = [[start, *inner, last] for inner in itertools.combinations(range(start + 1, last), steps - 1)]
    least, backwards = min((sum(costs[s][t] for s, t in itertools.pairwise(path)), path[::-1]) for path in paths)
    return least, backwards[::-1]


def least_totals(costs: np.ndarray, most: int) -> list[float]:
    """C[k, last] for k = 1 .. most by the recursion, one k after the other."""
    least, totals = np.where(np.arange(len(costs)) == 0, 0.0, INF), []
    for _ in range(most):
        least = (least[:, None] + costs).min(axis=0)
        totals.append(float(least[-1]))
    return totals


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], int, int]:
    """A small table of small integers (many ties, exact sums) and forbidden steps; a start; a number of slabs."""
    size = draw(st.integers(2, 9))
    cost = st.one_of(st.integers(-3, 3).map(float), st.just(INF))
    rows = [[draw(cost) if s < t else INF for t in range(size)] for s in range(size)]
    return rows, draw(st.integers(0, size - 2)), draw(st.integers(1, 10))


def paths_row_by_row(costs: torch.Tensor, steps: list[int], start: int = 0) -> dict[int, list[int]]:
    """What `optimal_paths` does with tables that are not on the CPU."""
    begun = costs[start, start:].clone()
    begun[0] = INF
    rows = row_by_row.least_costs(costs[start:, start:], begun, max(steps) - 1)
    ends = row_by_row.follow_back(costs[start:, start:], rows, [K - 1 for K in steps])
    return {K: [start, *(path + start).tolist()] for K, path in zip(steps, ends, strict=True)}


@settings(max_examples=300, deadline=None)
@given(problems())
def test_every_path_is_the_best_of_all_paths(problem):
    rows, start, slabs = problem
    costs = torch.tensor(rows, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_by_row, "SLABS", slabs)
        for K in range(1, len(rows) - start):
            least, path = best_by_enumeration(rows, K, start)
            if least == INF:
                with pytest.raises(
                    UserError, match=f"steps holds {K}, but no path of {K} steps from index {start}"
                ):
                    optimal_paths(costs, [K], start)
            else:
                assert optimal_paths(costs, [K], start) == {K: path}
                assert paths_row_by_row(costs, [K], start) == {K: path}


def min_plus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([(row[:, None] + b).min(axis=0) for row in a])


def test_totals_are_those_of_min_plus_matrix_powers():
    """The least cost of K steps is an entry of the table's K-th min-plus power, here by repeated squaring."""
    size, most = 301, 300
    costs = np.random.default_rng(1).integers(-50, 50, (size, size)).astype(float)
    costs[np.tril_indices(size)] = INF
    costs[np.random.default_rng(2).random((size, size)) < 0.1] = INF
    costs[np.arange(300), np.arange(1, 301)] = 7.0
    squares = [costs]
    while 2 ** len(squares) <= most:
        squares.append(min_plus(squares[-1], squares[-1]))
    paths = optimal_paths(torch.from_numpy(costs), range(1, most + 1))
    for k in [1, 2, 3, 4, 7, 31, 64, 100, 151, 255, 256, 299, 300]:
        row = np.where(np.arange(size) == 0, 0.0, INF)
        for bit, square in enumerate(squares):
            if k >> bit & 1:
                row = (row[:, None] + square).min(axis=0)
        assert total(torch.from_numpy(costs), paths[k]) == row[-1]


def test_totals_are_those_of_the_recursion_to_the_last_bit():
    costs = table(301)
    paths = optimal_paths(costs, range(1, 301))
    assert [total(costs, paths[k]) for k in range(1, 301)] == least_totals(costs.numpy(), 300)


def test_squared_step_lengths_give_steps_as_equal_as_can_be():
    """The K integers of sum T with the least sum of squares are T // K and T // K + 1."""
    index = torch.arange(301, dtype=torch.float64)
    costs = ((index - index[:, None]) ** 2).masked_fill(index[:, None] >= index, INF)
    for k, path in optimal_paths(costs, range(1, 301)).items():
        short, longer = divmod(300, k)
        assert sorted(np.diff(path)) == [short] * (k - longer) + [short + 1] * longer


def test_near_ties_that_float32_cannot_see_are_decided():
    """Costs 1 + j 2^-45: every total is exact in float64, and all are equal in float32."""
    size = 60
    j = np.random.default_rng(3).integers(0, 8, (size, size)).astype(float)
    j[np.tril_indices(size)] = INF
    paths = optimal_paths(torch.from_numpy(1 + j * 2**-45), range(1, size))
    least = least_totals(j, size - 1)
    assert [total(torch.from_numpy(j), paths[k]) for k in range(1, size)] == least


@pytest.mark.parametrize("cheaper", [1, 2])
def test_one_unit_in_the_last_place_decides(cheaper):
    costs = torch.full((4, 4), INF, dtype=torch.float64)
    costs[0, 1] = costs[0, 2] = costs[cheaper, 3] = 0.5
    costs[3 - cheaper, 3] = 0.5 + 2**-52
    assert optimal_paths(costs, [2]) == {2: [0, cheaper, 3]}


def paths_one_index_at_a_time(costs: torch.Tensor, most: int) -> dict[int, list[int]]:
    """The recursion and its backtracking, argmins (the smallest of equals) stored."""
    size = len(costs)
    least, sources = np.where(np.arange(size) == 0, 0.0, INF), []
    for _ in range(most):
        sums = least[:, None] + costs.numpy()
        sources.append(sums.argmin(axis=0))
        least = sums.min(axis=0)
    paths = {}
    for K in range(1, most + 1):
        path = [size - 1]
        for k in range(K, 0, -1):
            path.append(int(sources[k - 1][path[-1]]))
        paths[K] = path[::-1]
    return paths


@pytest.mark.parametrize("size", [2, 3, 63, 64, 65, 66, 128, 129, 193])
def test_paths_among_many_ties_are_those_of_the_plain_recursion(size):
    """At sizes about those of a block of the compiled loops, and with every number of steps."""
    costs = (table(size, seed=size) * 3).round()
    costs[torch.from_numpy(np.random.default_rng(size).random((size, size)) < 0.2)] = INF
    costs.diagonal(1).fill_(3.0)
    expected = paths_one_index_at_a_time(costs, size - 1)
    assert optimal_paths(costs, range(1, size)) == expected
    assert paths_row_by_row(costs, list(range(1, size))) == expected


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 8, 9, 127, 128, 129, 130])
def test_one_pass_gives_what_a_longer_one_gives(most):
    costs = (table(140) * 4).round()
    every = optimal_paths(costs, range(1, 140))
    assert optimal_paths(costs, range(1, most + 1)) == {K: every[K] for K in range(1, most + 1)}
    assert optimal_paths(costs, [most]) == {most: every[most]}


def test_paths_come_in_the_order_asked_for():
    assert list(optimal_paths(table(12), [7, 1, 11, 3])) == [7, 1, 11, 3]


def test_a_later_start_is_the_programme_on_the_table_behind_it():
    costs = table(200)
    shifted = optimal_paths(costs[70:, 70:].clone(), range(1, 130))
    assert optimal_paths(costs, range(1, 130), start=70) == {k: [70 + i for i in p] for k, p in shifted.items()}


def test_entries_that_no_path_can_use_do_not_matter():
    costs = table(50)
    noise = table(50, seed=1).T
    filled = torch.where(costs.isinf() & noise.isfinite(), noise, costs).fill_diagonal_(-100.0)
    assert optimal_paths(filled, range(1, 50)) == optimal_paths(costs, range(1, 50))


def test_costs_need_not_be_contiguous_and_are_not_changed():
    costs = table(150)
    transposed = costs.T.contiguous().T
    before = costs.clone()
    assert optimal_paths(transposed, range(1, 150)) == optimal_paths(costs.requires_grad_(), range(1, 150))
    assert torch.equal(costs, before)


def test_the_number_of_threads_changes_no_path_and_is_left_as_it_was():
    costs = (table(300) * 4).round()
    threads = torch.get_num_threads()
    paths = []
    try:
        for number in (1, 2, 3, 7):
            torch.set_num_threads(number)
            paths.append(optimal_paths(costs, range(1, 300)))
            assert torch.get_num_threads() == number
            with pytest.raises(UserError):
                optimal_paths(torch.full((5, 5), INF, dtype=torch.float64), [2])
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert paths[0] == paths[1] == paths[2] == paths[3]


def test_calls_from_two_threads_at_once_do_not_disturb_each_other():
    tables = [(table(400, seed) * 4).round() for seed in range(4)]
    alone = [optimal_paths(costs, range(1, 60)) for costs in tables]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda costs: optimal_paths(costs, range(1, 60)), tables * 4))
    assert together == alone * 4


def test_the_package_is_imported_without_the_compiler():
    seen = "import sys, fewstep, fewstep.discovery as d; d.named('search'); print('numba' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_all_steps_without_a_path_are_told_from_those_with_one():
    """Only steps of length 2: from 0 to 10 there is one path, of 5 steps."""
    index = torch.arange(11)
    costs = torch.where(index - index[:, None] == 2, 1.0, INF).double()
    assert optimal_paths(costs, [5]) == {5: [0, 2, 4, 6, 8, 10]}
    with pytest.raises(
        UserError, match="steps holds 4, but no path of 4 steps from index 0 to 10 has a finite cost"
    ):
        optimal_paths(costs, [5, 4])
    with pytest.raises(UserError, match="no path of 1 steps from index 3 to 10"):
        optimal_paths(costs, [1], start=3)


@pytest.mark.parametrize(
    "steps, start, message",
    [
        ([4, 0], 0, "steps holds 0; on this grid a number of steps must be from 1 to 9"),
        ([-2], 0, "steps holds -2"),
        ([3, 5, 3], 0, "steps holds 3 more than once"),
        ([10], 0, "steps holds 10; on this grid a number of steps must be from 1 to 9"),
        ([7], 3, "steps holds 7; on this grid a number of steps must be from 1 to 6"),
        ([], 0, "steps is empty"),
        ([2.0], 0, "whole numbers"),
        (4, 0, "whole numbers"),
        ([1], 9, "start is 9; on this grid it must be from 0 to 8"),
        ([1], -1, "start is -1"),
        ([1], 0.5, "start is 0.5"),
    ],
)
def test_impossible_requests_are_refused(steps, start, message):
    with pytest.raises(UserError, match=message):
        optimal_paths(table(10), steps, start)


@pytest.mark.parametrize("cost", [math.nan, -INF])
def test_nan_and_minus_infinity_are_refused(cost):
    costs = table(200)
    costs[150, 170] = cost
    with pytest.raises(UserError, match=rf"costs\[150, 170\] is {cost}"):
        optimal_paths(costs, [4])


def test_costs_must_be_a_square_float64_table():
    with pytest.raises(UserError, match=r"float32"):
        optimal_paths(table(10).float(), [4])
    with pytest.raises(UserError, match=r"\[10, 9\]"):
        optimal_paths(table(10)[:, :9], [4])
