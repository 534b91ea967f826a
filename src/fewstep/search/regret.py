"""How much worse than the best a path can be where the costs are known within an error."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.search.dp import optimal_paths, optimal_paths_from_pairs


@dataclass(frozen=True)
class CostError:
    """How far the costs of a table may be from the true ones, float64, by the upper index t of a step.

    Errors of steps that end at the same t are of one sign, for they come from the same statistics.

    Attributes:
        relative: of the steps (s, t), s ≥ 1, [M+1]: |cost − true cost| ≤ relative[t] |cost|.
        first: of the steps (0, t), absolute, [M+1]; where the table has first pairs (n_1, n_2), of what the step
            (0, n_1) adds to them, [M+1, M+1].
    """

    relative: Tensor
    first: Tensor


def best_path(table: CostTable, steps: int) -> list[int]:
    """The path of least total cost in so many steps."""
    if table.first_pairs is None:
        return optimal_paths(table.costs, [steps])[steps]
    return optimal_paths_from_pairs(table.costs, table.first_pairs, [steps])[steps]


def first_costs(table: CostTable) -> Tensor:
    """What the first step adds: costs[0], [M+1], or with first pairs [M+1, M+1]; +inf where it is forbidden."""
    if table.first_pairs is None:
        return table.costs[0]
    return (table.first_pairs - table.costs).nan_to_num(nan=torch.inf, posinf=torch.inf)


def margins(table: CostTable, error: CostError, path: Sequence[int]) -> Tensor:
    """The largest error of each of a path's steps, [K]."""
    s, t = torch.tensor(path[:-1]), torch.tensor(path[1:])
    found = error.relative[t] * table.costs[s, t].abs()
    found[0] = error.first[path[1]] if error.first.ndim == 1 else error.first[path[1], path[2]]
    return found


def regret_bound(table: CostTable, error: CostError, path: Sequence[int]) -> tuple[float, list[int]]:
    """The most that a path's true cost can exceed the least one of as many steps.

    That is the largest difference of two totals over all errors within their bounds, exactly: where only one of
    path and rival ends a step at a timestep, the path's cost is higher, or the rival's lower, by all of its error;
    where both do, one error moves the two costs together.

    Returns:
        The bound, in the table's unit, and the rival that attains it.
    """
    worst = _worst_case(table, error, path)
    rival = best_path(worst, len(path) - 1)
    return max(0.0, worst.total(path) - worst.total(rival)), rival


def _worst_case(table: CostTable, error: CostError, path: Sequence[int]) -> CostTable:
    """Costs under which the path's total less a rival's is the largest there is, for every rival at once."""
    own = margins(table, error, path)
    size = table.costs.abs().nan_to_num(posinf=0.0)
    costs = table.costs - error.relative * size
    for (_, t), margin in itertools.islice(zip(itertools.pairwise(path), own, strict=True), 1, None):
        costs[1:t, t] = table.costs[1:t, t] + _moved_together(margin, error.relative[t] * size[1:t, t])
    first = -error.first
    first[path[1]] = _moved_together(own[0], error.first[path[1]])
    if table.first_pairs is None:
        costs[0] = table.costs[0] + first
        return CostTable(table.times, costs, table.unit)
    return CostTable(table.times, costs, table.unit, first_costs(table) + first + costs)


def _moved_together(margin: Tensor, of_rival: Tensor) -> Tensor:
    """What a rival's cost is higher by where one error moves it and the path's, by up to `margin`."""
    return margin - (margin - of_rival).abs()
