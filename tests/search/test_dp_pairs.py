"""The programme begun on pairs: the first step's cost depends on its second node."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.costs import CostTable
from fewstep.errors import UserError
from fewstep.objectives.base import Objective
from fewstep.process import Process
from fewstep.search import row_by_row
from fewstep.search.dp import Dp, optimal_paths, optimal_paths_from_pairs

INF = math.inf


def tables(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random costs and first pairs between -1 and 1, +inf where they must be."""
    rng = np.random.default_rng(seed)
    below = torch.ones(size, size, dtype=torch.bool).tril()
    costs = torch.from_numpy(rng.uniform(-1, 1, (size, size))).masked_fill(below, INF)
    first_pairs = torch.from_numpy(rng.uniform(-1, 1, (size, size))).masked_fill(below, INF)
    first_pairs[0] = INF
    return costs, first_pairs


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """Small tables of small integers (many ties, exact sums) and forbidden steps."""
    size = draw(st.integers(3, 9))
    cost = st.one_of(st.integers(-3, 3).map(float), st.just(INF))
    costs = [[draw(cost) if s < t else INF for t in range(size)] for s in range(size)]
    first_pairs = [[draw(cost) if 1 <= s < t else INF for t in range(size)] for s in range(size)]
    return costs, first_pairs


@settings(max_examples=200, deadline=None)
@given(problems())
def test_every_path_is_the_best_of_all_paths(problem):
    """Of equally good ones the one with the smallest indices, compared from the end."""
    costs, first_pairs = problem
    last = len(costs) - 1
    given_costs, given_pairs = (torch.tensor(rows, dtype=torch.float64) for rows in problem)
    for K in range(2, last + 1):
        paths = [[0, *inner, last] for inner in itertools.combinations(range(1, last), K - 1)]
        least, backwards = min(
            (first_pairs[path[1]][path[2]] + sum(costs[s][t] for s, t in itertools.pairwise(path[2:])), path[::-1])
            for path in paths
        )
        if least == INF:
            with pytest.raises(UserError, match=f"no path of {K} steps from index 0 to {last} has a finite cost"):
                optimal_paths_from_pairs(given_costs, given_pairs, [K])
        else:
            assert optimal_paths_from_pairs(given_costs, given_pairs, [K]) == {K: backwards[::-1]}


def test_totals_are_those_of_the_recursion_to_the_last_bit():
    costs, first_pairs = tables(201, 0)
    table = CostTable(torch.arange(201, dtype=torch.float64), costs, "nats/example", first_pairs)
    paths = optimal_paths_from_pairs(costs, first_pairs, range(2, 201))
    least = first_pairs.amin(0)
    for K in range(2, 201):
        assert table.total(paths[K]) == least[-1].item()
        least = (least[:, None] + costs).amin(0)


def test_pairs_that_are_sums_of_two_steps_change_nothing():
    """Integers, so that every sum is exact."""
    costs = (tables(200, 1)[0] * 50).round()
    first_pairs = costs[0][:, None] + costs
    first_pairs[0] = INF
    paths = optimal_paths_from_pairs(costs, first_pairs, [2, 3, 30, 199])
    assert paths == optimal_paths(costs, [2, 3, 30, 199])


def test_a_table_elsewhere_is_searched_alike():
    costs, first_pairs = ((table * 4).round() for table in tables(150, 2))
    rows = row_by_row.least_costs(costs, first_pairs.amin(0), 148)
    ends = row_by_row.follow_back(costs, rows, list(range(149)))
    found = optimal_paths_from_pairs(costs, first_pairs, range(2, 150))
    for K, path in found.items():
        assert path[2:] == ends[K - 2].tolist()


def test_row_0_of_the_costs_is_not_used_and_inputs_may_have_gradients_or_strides():
    costs, first_pairs = tables(90, 3)
    paths = optimal_paths_from_pairs(costs, first_pairs, [2, 5, 80])
    other = costs.T.contiguous().T
    other[0] = -5.0
    assert optimal_paths_from_pairs(other, first_pairs.clone().requires_grad_(), [2, 5, 80]) == paths


@pytest.mark.parametrize(
    "steps, message",
    [
        ([4, 1], "steps holds 1, but one step has no second node"),
        ([0], "steps holds 0"),
        ([10], "from 1 to 9"),
        ([3, 3], "more than once"),
        ([], "steps is empty"),
    ],
)
def test_impossible_requests_are_refused(steps, message):
    costs, first_pairs = tables(10, 0)
    with pytest.raises(UserError, match=message):
        optimal_paths_from_pairs(costs, first_pairs, steps)


def test_first_pairs_are_checked():
    costs, first_pairs = tables(10, 0)
    with pytest.raises(UserError, match=r"first_pairs has shape \[9, 9\]"):
        optimal_paths_from_pairs(costs, first_pairs[:9, :9], [3])
    first_pairs[2, 7] = math.nan
    with pytest.raises(UserError, match=r"first_pairs\[2, 7\] is nan"):
        optimal_paths_from_pairs(costs, first_pairs, [3])


def test_the_search_begins_on_pairs_where_the_objective_has_them(perfect_denoiser):
    process = Process.linear(30)
    denoiser = perfect_denoiser(process, 1.0)
    costs, first_pairs = tables(31, 4)

    class Pairs(Objective):
        name, needs = "pairs", ()

        def edge_costs(self, statistics, around=None):
            return CostTable(process.grid, costs, "nats/example", first_pairs)

        def image_values(self, statistics, schedule, denoiser=None):
            raise AssertionError("the search looks at the table alone")

    schedules = Dp()(Pairs(), {}, denoiser, [2, 5])
    paths = optimal_paths_from_pairs(costs, first_pairs, [2, 5])
    assert {K: schedule.indices for K, schedule in schedules.items()} == paths
    with pytest.raises(UserError, match="one step has no second node"):
        Dp()(Pairs(), {}, denoiser, [1])
