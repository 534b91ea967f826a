"""Dynamic programme over a cost table: the exactly optimal path for every number of steps in one pass.

Watson et al. 2021, Algorithms 1 and 2: C[0, start] = 0, else +inf; C[k, t] = min over s of C[k-1, s] + L(s, t).
(The backtracking begins at the last index; Algorithm 2 as printed begins at t = K and returns a wrong path.)

For all k together the recursion is a min-plus matrix product whose left factor is its own result, one row up.
It is taken in blocks of indices, so that a tile of the table stays in the processor's cache for every k. No
argmin is stored for t, only the block that the best last step comes from: which index of that block it was is
worked out again, along the optimal paths alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from fewstep.costs import check_costs
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps

BLOCK = 128  # grid indices per block
ROWS = 32  # most rows of C that a thread takes at a time
PATHS = 512  # most paths followed back at a time


def optimal_paths(costs: Tensor, steps: Sequence[int], start: int = 0) -> dict[int, list[int]]:
    """The paths of least total cost from index `start` to the last, one per number of steps; exact.

    A total is the sum from the first step to the last, each partial sum rounded to float64, as in
    `CostTable.total`. Ties: of the last indices but one that give the least total, the smallest is taken; then
    likewise for the path up to there.

    One pass gives every K up to the largest asked for, in time O(max(steps) M^2). Memory beyond `costs`: at most
    about one more table of that size, the returned lists included.

    Args:
        costs: float64 [M+1, M+1] on any device; costs[s, t] is the cost of the step from t to s, +inf where it
            is forbidden. Costs may be negative. Entries with s >= t belong to no path and are not used.
        steps: the numbers of steps K, each from 1 to M - start.
        start: the grid index at which every path starts.

    Returns:
        For each K, in the order given, the grid indices start = i_0 < ... < i_K = M.

    Raises:
        UserError: costs that are no square float64 table or hold NaN or -inf; a start outside the grid; steps
            that are 0, negative, repeated, more than the grid allows, or without a path of finite cost.
    """
    check_costs(costs)
    last = len(costs) - 1
    start = _check_start(start, last)
    steps = _check_steps(steps, last - start)
    with _one_core_per_kernel() as cores:
        paths = _paths(costs.detach()[start:, start:], steps, start, cores if costs.device.type == "cpu" else 1)
    # One integer object per grid index, not per entry: the paths for every K have M^2 / 2 entries.
    indices = np.array(range(start, last + 1), dtype=object)
    return {k: indices[path.cpu().numpy()].tolist() for k, path in zip(steps, paths, strict=True)}


@dataclass(frozen=True)
class _LeastCosts:
    """C[k, t] in blocks of t, stacked: block j holds t = j BLOCK + column; its row first[j] + k is for k steps.

    A block has rows only for those k that can reach it: all k together need about half a table.
    """

    costs: Tensor  # float64 [rows, BLOCK]
    origins: Tensor  # int16 [rows, BLOCK], the first block that an optimal last step comes from
    first: list[int]

    def block(self, j: int) -> tuple[Tensor, Tensor]:
        rows = slice(self.first[j], self.first[j + 1])
        return self.costs[rows], self.origins[rows]


@contextmanager
def _one_core_per_kernel() -> Iterator[int]:
    """Keep torch from splitting kernels over the cores; yields the number of cores that it would use.

    Kernels as short as these, split, mostly wait for the slowest core: milliseconds each where cores are shared.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


def _paths(costs: Tensor, steps: list[int], start: int, threads: int) -> list[Tensor]:
    """The optimal paths from index 0 of `costs`, integer [K+1] each; `start` serves the message alone."""
    last = len(costs) - 1
    least = _least_costs(costs, max(steps), threads)
    totals = least.block(last // BLOCK)[0][steps, last % BLOCK]
    for k, total in zip(steps, totals.tolist(), strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"steps holds {k}, but no path of {k} steps from index {start} to {start + last} "
                f"has a finite cost: each takes a forbidden step (+inf)."
            )
    return _backtrack(costs, least, steps)


def _least_costs(costs: Tensor, most: int, threads: int) -> _LeastCosts:
    """C[k, t] from index 0, for k = 0 .. most and every t."""
    size = len(costs)
    first = [0]
    for low in range(0, size, BLOCK):
        first.append(first[-1] + 1 + min(most, low + BLOCK - 1, size - 1))
    values = costs.new_full((first[-1], BLOCK), math.inf)
    values[0, 0] = 0.0
    least = _LeastCosts(values, torch.zeros_like(values, dtype=torch.int16), first)
    strip = _strip(costs)
    rows = max(1, min(ROWS, costs.numel() // (4 * threads * BLOCK**2)))
    scratch = costs.new_empty((threads, rows, BLOCK, BLOCK))

    def relax(thread: int, j: int, arriving: Tensor) -> None:
        for row in range(thread * rows, most, threads * rows):
            _relax_from_earlier(least, j, row, arriving, scratch[thread])

    with ThreadPoolExecutor(threads) as pool:
        spread = pool.map if threads > 1 else map
        for j in range(len(first) - 1):
            arriving = _arriving(costs, j, strip)
            for _ in spread(relax, range(threads), repeat(j), repeat(arriving)):
                pass
            _relax_within(least, j, arriving[:, j])
    return least


def _relax_from_earlier(least: _LeastCosts, j: int, row: int, arriving: Tensor, scratch: Tensor) -> None:
    """Lower rows of block j's C[k, t] by the steps from all blocks before it: a min-plus product for each."""
    known, origins = (block[1:][row : row + len(scratch), : len(arriving)] for block in least.block(j))
    for i in range(j):
        before = least.block(i)[0][row : row + len(known)]
        sums = scratch[: len(before), : len(arriving)]
        torch.add(before[:, None], arriving[:, i], out=sums)
        found = sums.amin(dim=2)
        origins[: len(found)].masked_fill_(found < known[: len(found)], i)
        torch.minimum(known[: len(found)], found, out=known[: len(found)])


def _relax_within(least: _LeastCosts, j: int, arriving: Tensor) -> None:
    """Lower block j's C[k, t] by the steps that start in the block itself, one t after the other."""
    known, origins = (block[:, : len(arriving)] for block in least.block(j))
    outside = known.clone()
    before, after = known[:-1], known[1:]
    for t in range(1, len(arriving)):
        found = (before[:, :t] + arriving[t, :t]).amin(dim=1)
        torch.minimum(after[:, t], found, out=after[:, t])
    origins.masked_fill_(known < outside, j)


def _strip(costs: Tensor) -> Tensor:
    """Room for the costs of the steps that arrive in one block: [t, block of s, s], padded with +inf."""
    return costs.new_full((BLOCK, -(-len(costs) // BLOCK), BLOCK), math.inf)


def _arriving(costs: Tensor, j: int, strip: Tensor) -> Tensor:
    """The costs of the steps with t in block j, written into the strip: [t, block of s, s], +inf unless s < t."""
    low = j * BLOCK
    columns = costs[: low + BLOCK, low : low + BLOCK].t()
    strip.flatten(1)[: len(columns), : columns.shape[1]] = columns
    arriving = strip[: len(columns), : j + 1]
    own = arriving[:, j]
    own.masked_fill_(torch.ones_like(own, dtype=torch.bool).triu(), math.inf)
    return arriving


def _backtrack(costs: Tensor, least: _LeastCosts, steps: list[int]) -> list[Tensor]:
    """Follow every path back from its end, block by block, all paths that are in the block at a time."""
    left = torch.tensor(steps, device=costs.device)  # steps not yet taken back
    node = torch.full_like(left, len(costs) - 1)
    begin = (left + 1).cumsum(0) - (left + 1)
    narrow = torch.int16 if len(costs) <= 2**15 else torch.int32
    visited = torch.zeros(sum(steps) + len(steps), dtype=narrow, device=costs.device)
    visited[begin + left] = node.to(narrow)
    first = torch.tensor(least.first, device=costs.device)
    strip = _strip(costs)
    for j in reversed(range(len(least.first) - 1)):
        arriving = _arriving(costs, j, strip)
        while len(inside := ((node >= j * BLOCK) & (left > 0)).nonzero()[:PATHS, 0]):
            k, column = left[inside], node[inside] - j * BLOCK
            origin = least.origins[first[j] + k, column].long()
            sums = least.costs[first[origin] + k - 1] + arriving[column, origin]
            source = origin * BLOCK + sums.argmin(dim=1)
            visited[begin[inside] + k - 1] = source.to(narrow)
            node[inside], left[inside] = source, k - 1
    return list(visited.split([k + 1 for k in steps]))


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
