"""The bound on the regret against every corner of the box of errors, path by path."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.search.regret import CostError, WorstCase, best_paths, first_costs

M = 4


def random_table(seed: int, *, pairs: bool) -> CostTable:
    generator = torch.Generator().manual_seed(seed)
    costs = torch.rand(M + 1, M + 1, generator=generator, dtype=torch.float64) + 0.2
    costs = costs.masked_fill(torch.ones(M + 1, M + 1).tril().bool(), math.inf)
    first_pairs = None
    if pairs:
        first_pairs = costs + torch.rand(M + 1, M + 1, generator=generator, dtype=torch.float64)
        first_pairs[0] = math.inf
    return CostTable(torch.arange(M + 1, dtype=torch.float64), costs, "nats/example", first_pairs)


def random_error(seed: int, *, pairs: bool) -> CostError:
    generator = torch.Generator().manual_seed(100 + seed)
    shape = (M + 1, M + 1) if pairs else (M + 1,)
    relative = 0.4 * torch.rand(M + 1, generator=generator, dtype=torch.float64)
    relative[2] = 0.0  # a timestep that was measured
    return CostError(relative, 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64))


def paths(steps: int) -> list[list[int]]:
    return [[0, *inner, M] for inner in itertools.combinations(range(1, M), steps - 1)]


def totals(table: CostTable, error: CostError, path: list[int], signs: Tensor, first_signs: Tensor) -> float:
    """The path's total where the error of timestep t has the sign signs[t]."""
    first, of_first = first_costs(table, path[1]), error.first[path[1]]
    if table.first_pairs is not None:
        first, of_first = first[path[2]], of_first[path[2]]
    total = (first + first_signs[path[1]] * of_first).item()
    for s, t in itertools.pairwise(path[1:]):
        total += (table.costs[s, t] * (1 + signs[t] * error.relative[t])).item()
    return total


@pytest.mark.parametrize("pairs", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_largest_regret_over_all_errors(seed: int, pairs: bool) -> None:
    """The regret is a maximum of functions linear in the errors, so the largest one is at a corner."""
    table, error = random_table(seed, pairs=pairs), random_error(seed, pairs=pairs)
    for steps in (2, 3):
        path = best_paths(table, [steps])[steps]
        largest = 0.0
        for corner in itertools.product((-1.0, 1.0), repeat=2 * (M - 1)):
            signs, first_signs = (torch.tensor([0.0, *part, 0.0]) for part in (corner[: M - 1], corner[M - 1 :]))
            for last in (-1.0, 1.0):
                signs[M] = last
                own = totals(table, error, path, signs, first_signs)
                least = min(totals(table, error, other, signs, first_signs) for other in paths(steps))
                largest = max(largest, own - least)
        bound, rival = WorstCase(table, error).regret_bound(path)
        assert bound == pytest.approx(largest, abs=1e-12)
        assert rival in paths(steps)


def test_without_errors_the_best_path_has_no_regret_and_another_has_its_own() -> None:
    table = random_table(7, pairs=False)
    nothing = CostError(torch.zeros(M + 1, dtype=torch.float64), torch.zeros(M + 1, dtype=torch.float64))
    best = best_paths(table, [3])[3]
    assert WorstCase(table, nothing).regret_bound(best) == (0.0, best)
    for path in paths(3):
        assert WorstCase(table, nothing).regret_bound(path)[0] == pytest.approx(
            table.total(path) - table.total(best)
        )
