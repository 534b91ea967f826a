"""Dynamic programme over a cost table: the exactly optimal path for every number of steps in one pass.

Watson et al. 2021, Algorithms 1 and 2: C[0, start] = 0, else +inf; C[k, t] = min over s of C[k-1, s] + L(s, t).
(Printed Algorithm 2 begins its backtracking at t = K; the path ends at the last index, so it must begin there.)

The recursion is a min-plus matrix product whose input is its own output, one row down and to the left. It is
taken in blocks of target indices, all k at a time, so that a tile of the table stays in the processor's cache
for every k. C keeps, besides each least cost, the number of the block that the last step came from; which index
of that block it was is worked out again along the optimal paths alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.costs import check_costs
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps

BLOCK = 128  # grid indices per block
SCRATCH = 2**20  # most float64 numbers that a min-plus product uses for its sums


@torch.no_grad()
def optimal_paths(costs: Tensor, steps: Sequence[int], start: int = 0) -> dict[int, list[int]]:
    """The paths of least total cost from index `start` to the last, one per number of steps; exact.

    Totals are sums from the first step to the last, each rounded to float64. Among paths of equal total, the
    one whose last index but one is smallest is taken; among those, the one whose index before that is
    smallest; and so on down to the start.

    One pass gives every K up to the largest asked for: time O(max(steps) M^2), memory beyond `costs` less than
    one more table of its size.

    Args:
        costs: float64 [M+1, M+1] on any device; costs[s, t] is the cost of the step from t to s, +inf where it
            is forbidden; costs may be negative. Entries with s >= t belong to no path and are not used.
        steps: the numbers of steps K, each from 1 to M - start.
        start: the grid index at which every path starts.

    Returns:
        For each K, in the order given, the grid indices start = i_0 < ... < i_K = M.

    Raises:
        UserError: costs that are no float64 square table or hold NaN or -inf; a start outside the grid; steps
            that are 0, negative, repeated or more than the grid allows, or for which every path is forbidden.
    """
    check_costs(costs)
    last = len(costs) - 1
    start = _check_start(start, last)
    steps = _check_steps(steps, last - start)
    paths = _paths(costs[start:, start:], steps, start)
    # One integer object per grid index: all K together hold M^2/2 of them.
    indices = list(range(start, last + 1))
    return {k: [indices[i] for i in path.tolist()] for k, path in zip(steps, paths, strict=True)}


@dataclass(frozen=True)
class _LeastCosts:
    """C[k, t] in blocks of targets, each with a row for every k that can reach it, one block below the other.

    Block j holds the targets t = j BLOCK + column. Row first[j] + k is for k steps.
    """

    costs: Tensor  # float64 [rows, BLOCK]
    origins: Tensor  # int16 [rows, BLOCK]: the first block in which an optimal last step starts
    first: list[int]  # one per block, and the number of rows

    def block(self, j: int) -> tuple[Tensor, Tensor]:
        rows = slice(self.first[j], self.first[j + 1])
        return self.costs[rows], self.origins[rows]


def _least_costs(costs: Tensor, most: int) -> _LeastCosts:
    """C[k, t] for k up to `most` and every t."""
    size = len(costs)
    first = [0]
    for low in range(0, size, BLOCK):
        first.append(first[-1] + 1 + min(most, low + BLOCK - 1, size - 1))
    least = _LeastCosts(
        costs.new_full((first[-1], BLOCK), math.inf),
        costs.new_zeros((first[-1], BLOCK), dtype=torch.int16),
        first,
    )
    least.costs[0, 0] = 0.0
    scratch = costs.new_empty(max(BLOCK * max(most, BLOCK), min(SCRATCH, costs.numel() // 4)))
    products = costs.new_empty((most, BLOCK))
    strip = _strip(costs)
    for j in range(len(first) - 1):
        arriving = _arriving(costs, j, strip)
        targets, origins = (block[:, : len(arriving)] for block in least.block(j))
        for i in range(j):
            sources = least.block(i)[0][: len(targets) - 1]
            found = _min_plus(sources, arriving[:, i], scratch, products[: len(sources), : len(arriving)])
            known = targets[1 : len(found) + 1]
            origins[1 : len(found) + 1].masked_fill_(found < known, i)
            torch.minimum(known, found, out=known)
        outside = targets.clone()
        _relax_within(targets, arriving[:, j], scratch, products[: len(targets) - 1, 0])
        origins.masked_fill_(targets < outside, j)
    return least


def _min_plus(least: Tensor, arriving: Tensor, scratch: Tensor, out: Tensor) -> Tensor:
    """Min-plus product: out[k, t] = min over s of least[k, s] + arriving[t, s]."""
    rows = len(scratch) // arriving.numel()
    for k in range(0, len(least), rows):
        part = least[k : k + rows]
        sums = scratch[: len(part) * arriving.numel()].view(len(part), *arriving.shape)
        torch.add(part[:, None], arriving, out=sums)
        torch.amin(sums, dim=2, out=out[k : k + rows])
    return out


def _relax_within(least: Tensor, arriving: Tensor, scratch: Tensor, found: Tensor) -> None:
    """Add to a block's least costs [k, t], in place, the steps that start in the block itself."""
    before, after = least[:-1], least[1:]
    for t in range(1, len(arriving)):
        sums = scratch[: len(before) * t].view(len(before), t)
        torch.add(before[:, :t], arriving[t, :t], out=sums)
        torch.amin(sums, dim=1, out=found)
        known = after[:, t]
        torch.minimum(known, found, out=known)


def _paths(costs: Tensor, steps: list[int], start: int) -> list[Tensor]:
    """The optimal paths from index 0 of `costs`, int32 [K+1] each; `start` serves the message alone."""
    last = len(costs) - 1
    least = _least_costs(costs, max(steps))
    totals = least.block(-1)[0][steps, last % BLOCK]
    for k, total in zip(steps, totals.tolist(), strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"steps holds {k}, but no path of {k} steps from index {start} to {start + last} has a finite "
                f"cost: each takes a forbidden step (+inf)."
            )
    return _backtrack(costs, least, steps)


def _backtrack(costs: Tensor, least: _LeastCosts, steps: list[int]) -> list[Tensor]:
    """Follow every path from its end, block by block, all those that are in the block at a time."""
    left = torch.tensor(steps, device=costs.device)  # steps still to be taken back
    node = torch.full_like(left, len(costs) - 1)
    first = torch.tensor(least.first, device=costs.device)
    begin = (left + 1).cumsum(0) - (left + 1)
    visited = torch.zeros(int((left + 1).sum()), dtype=torch.int32, device=costs.device)
    visited[begin + left] = node.int()
    strip = _strip(costs)
    for j in reversed(range(len(least.first) - 1)):
        arriving = _arriving(costs, j, strip)
        while len(inside := ((node >= j * BLOCK) & (left > 0)).nonzero().squeeze(1)):
            k, column = left[inside], node[inside] - j * BLOCK
            block = least.origins[first[j] + k, column].long()
            sums = least.costs[first[block] + k - 1] + arriving[column, block]
            source = block * BLOCK + sums.argmin(dim=1)
            visited[begin[inside] + k - 1] = source.int()
            node[inside], left[inside] = source, k - 1
    return list(visited.split([k + 1 for k in steps]))


def _strip(costs: Tensor) -> Tensor:
    """Room for the costs of the steps that arrive in one block: [t, block of s, s], padded with +inf."""
    return costs.new_full((BLOCK, -(-len(costs) // BLOCK), BLOCK), math.inf)


def _arriving(costs: Tensor, j: int, strip: Tensor) -> Tensor:
    """Write the costs of the steps with t in block j into the strip: [t, block of s, s], +inf unless s < t."""
    low = j * BLOCK
    columns = costs[: low + BLOCK, low : low + BLOCK].t()
    strip.flatten(1)[: len(columns), : columns.shape[1]] = columns
    arriving = strip[: len(columns), : j + 1]
    later = torch.ones_like(arriving[:, j], dtype=torch.bool).triu()
    arriving[:, j].masked_fill_(later, math.inf)
    return arriving


def _check_start(start: int, last: int) -> int:
    try:
        index = operator.index(start)
    except TypeError as error:
        raise UserError(f"start is {start!r}; it must be a grid index.") from error
    if not 0 <= index < last:
        raise UserError(f"start is {index}; on this grid it must be from 0 to {last - 1}.")
    return index


def _check_steps(steps: Sequence[int], most: int) -> list[int]:
    try:
        numbers = [operator.index(k) for k in steps]
    except TypeError as error:
        raise UserError(f"steps is {steps!r}; it must be a sequence of whole numbers.") from error
    if not numbers:
        raise UserError("steps is empty; it must hold at least one number of steps.")
    seen: set[int] = set()
    for k in numbers:
        if not 1 <= k <= most:
            raise UserError(f"steps holds {k}; on this grid a number of steps must be from 1 to {most}.")
        if k in seen:
            raise UserError(f"steps holds {k} more than once; each number of steps may be given once.")
        seen.add(k)
    return numbers


class Dp:
    """`dp`: the exactly optimal schedule of an additive objective on the grid, for every K in one pass."""

    name = "dp"
    needs_objective = True

    def __call__(
        self,
        objective: Objective | None,
        statistics: Statistics,
        denoiser: Denoiser,
        steps: Sequence[int],
    ) -> dict[int, Schedule]:
        """The schedules of least total cost.

        Raises:
            UserError: no objective, or steps that the grid does not allow.
        """
        if objective is None:
            raise UserError("The search 'dp' needs an objective; give one, such as elbo.")
        check_steps(steps, denoiser.process)
        table = objective.edge_costs(statistics)
        provenance = {"search": self.name, "objective": objective.name}
        paths = optimal_paths(table.costs, steps)
        return {K: Schedule(table.times[path], denoiser.process, provenance) for K, path in paths.items()}
