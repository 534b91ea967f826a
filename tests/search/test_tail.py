"""The programme with a factor on the tail, against all paths and against the programme without one."""

import itertools
import math

import pytest
import torch

from fewstep.costs import CostTable
from fewstep.errors import UserError
from fewstep.search.dp import optimal_paths
from fewstep.search.tail import optimal_paths_with_tail

M = 7


def table(seed: int, tail: float) -> CostTable:
    costs = torch.rand(M + 1, M + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    costs = costs.masked_fill(torch.ones_like(costs, dtype=torch.bool).tril(), math.inf)
    return CostTable(torch.arange(M + 1, dtype=torch.float64), costs, "error", tail=tail)


@pytest.mark.parametrize("tail", [0.5, 1.15, 3.0])
def test_no_path_costs_less(tail: float) -> None:
    given = table(1, tail)
    for K, found in optimal_paths_with_tail(given.costs, tail, range(1, M + 1)).items():
        every = [[0, *inner, M] for inner in itertools.combinations(range(1, M), K - 1)]
        assert given.total(found) == min(given.total(path) for path in every)


def test_a_factor_of_one_is_the_plain_programme() -> None:
    for seed in range(5):
        costs, steps = table(seed, 1.0).costs, range(1, M + 1)
        assert optimal_paths_with_tail(costs, 1.0, steps) == optimal_paths(costs, steps)


def test_a_forbidden_number_of_steps_is_told() -> None:
    costs = table(0, 2.0).costs
    costs[:, M] = math.inf
    costs[0, M] = 1.0
    with pytest.raises(UserError, match="steps holds 2, but no path of 2 steps has a finite cost"):
        optimal_paths_with_tail(costs, 2.0, [1, 2])


@pytest.mark.parametrize("tail", [0.0, -1.0, math.inf, math.nan])
def test_a_table_of_another_factor_is_refused(tail: float) -> None:
    with pytest.raises(UserError, match="tail is"):
        table(0, tail)
