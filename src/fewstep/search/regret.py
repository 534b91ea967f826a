"""How much worse than the best a path can be where the costs are known within an error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.search.dp import optimal_paths, optimal_paths_from_pairs

ROWS = 64  # of a table at a time, so that its temporaries stay small


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


def best_paths(table: CostTable, steps: Sequence[int]) -> dict[int, list[int]]:
    """K → the path of least total cost in so many steps; one pass for all K's."""
    if table.first_pairs is None:
        return optimal_paths(table.costs, steps)
    return optimal_paths_from_pairs(table.costs, table.first_pairs, steps)


def first_costs(table: CostTable, n_1: int) -> Tensor:
    """What the first step (0, n_1) adds, a scalar; with first pairs [M+1], for every n_2. +inf where forbidden."""
    if table.first_pairs is None:
        return table.costs[0, n_1]
    return _without_second(table.first_pairs[n_1], table.costs[n_1])


def margins(table: CostTable, error: CostError, path: Sequence[int]) -> Tensor:
    """The largest error of each of a path's steps, [K]."""
    s, t = torch.tensor(path[:-1]), torch.tensor(path[1:])
    found = error.relative[t] * table.costs[s, t].abs()
    found[0] = error.first[path[1]] if error.first.ndim == 1 else error.first[path[1], path[2]]
    return found


class WorstCase:
    """Costs under which a path's total less a rival's is the largest there is, for every rival at once.

    Where only one of path and rival ends a step at a timestep, the path's cost is higher, or the rival's lower, by
    all of its error; where both do, one error moves the two costs together. So the costs differ from one path to
    the next at its own timesteps alone, and the rest of the table is made once for all paths.

    Args:
        table: the costs.
        error: how far they may be from the true ones.
    """

    def __init__(self, table: CostTable, error: CostError) -> None:
        self._table, self._error = table, error
        self._costs = _lowered(table, error)

    def regret_bound(self, path: Sequence[int]) -> tuple[float, list[int]]:
        """The most that a path's true cost can exceed the least one of as many steps.

        That is the largest difference of two totals over all errors within their bounds, exactly.

        Returns:
            The bound, in the table's unit, and the rival that attains it.
        """
        steps = len(path) - 1
        with self._of(path) as costs:
            rival = best_paths(costs, [steps])[steps]
            return max(0.0, costs.total(path) - costs.total(rival)), rival

    @contextmanager
    def _of(self, path: Sequence[int]) -> Iterator[CostTable]:
        """The costs for a path, as long as the block lasts."""
        table, error, worst = self._table, self._error, self._costs
        own = margins(table, error, path)
        nodes = torch.tensor(path[1:])
        kept = worst.costs[:, nodes]
        for t, margin in zip(path[2:], own[1:], strict=True):
            costs = table.costs[1:t, t]
            worst.costs[1:t, t] = costs + _moved_together(margin, error.relative[t] * _size(costs))
        with self._first_steps_of(path, own[0]):
            yield worst
        worst.costs[:, nodes] = kept

    @contextmanager
    def _first_steps_of(self, path: Sequence[int], margin: Tensor) -> Iterator[None]:
        table, error, worst, n_1 = self._table, self._error, self._costs, path[1]
        first = first_costs(table, n_1) + _moved_together(margin, error.first[n_1])
        if table.first_pairs is None or worst.first_pairs is None:
            worst.costs[0, n_1] = first  # `_of` puts it back with the rest of its column
            yield
            return
        pairs, nodes = worst.first_pairs, torch.tensor(path[2:])
        kept, kept_row = pairs[:, nodes], pairs[n_1].clone()
        added = _without_second(table.first_pairs[:, nodes], table.costs[:, nodes])
        pairs[:, nodes] = added - error.first[:, nodes] + worst.costs[:, nodes]
        pairs[n_1] = first + worst.costs[n_1]
        yield
        pairs[n_1], pairs[:, nodes] = kept_row, kept


def _lowered(table: CostTable, error: CostError) -> CostTable:
    """The least costs that there may be, but for a table with first pairs those of the single first steps."""
    costs = torch.full_like(table.costs, torch.inf)
    first_pairs = None if table.first_pairs is None else torch.full_like(costs, torch.inf)

    def lower(first: int) -> None:
        block = slice(first, first + ROWS), slice(first + 1, None)
        known = table.costs[block]
        costs[block] = known - error.relative[block[1]] * _size(known)
        if table.first_pairs is not None and first_pairs is not None:
            added = _without_second(table.first_pairs[block], known)
            first_pairs[block] = added - error.first[block] + costs[block]

    spread(lower, range(1, len(costs) - 1, ROWS))
    if first_pairs is None:
        costs[0] = table.costs[0] - error.first
    return CostTable(table.times, costs, table.unit, first_pairs)


def _size(costs: Tensor) -> Tensor:
    """|cost|, 0 where the step is forbidden."""
    return costs.abs().nan_to_num(posinf=0.0)


def _without_second(first_pairs: Tensor, costs: Tensor) -> Tensor:
    """What the steps (0, n_1) add to (n_1, n_2); +inf where they are forbidden."""
    return (first_pairs - costs).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _moved_together(margin: Tensor, of_rival: Tensor) -> Tensor:
    """What a rival's cost is higher by where one error moves it and the path's, by up to `margin`."""
    return margin - (margin - of_rival).abs()
