"""Dynamic programme over a cost table: the exactly optimal path for every number of steps in one pass.

Watson et al. 2021, Algorithms 1 and 2: C[0, start] = 0, else +inf; C[k, t] = min over s of C[k-1, s] + L(s, t).
(The backtracking begins at the last index; Algorithm 2 as printed begins at t = K and returns a wrong path.)

Three ways to the same values, to the last bit: `kernels.min_plus` for tables on the CPU; `kernels.monotone`, far
fewer sums, where the table there is found to satisfy the quadrangle inequality; `row_by_row` for tables elsewhere.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewstep.calls import Calls
from fewstep.costs import CostTable, check_costs, check_first_pairs
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search import row_by_row
from fewstep.search.base import check_steps
from fewstep.search.linearisation import successive_linearisation
from fewstep.search.tail import optimal_paths_with_tail

if TYPE_CHECKING:
    from fewstep.search.kernels.min_plus import LeastCosts

# From here on the quadrangle inequality, where it holds, saves more than its check costs (it runs on one thread).
MONOTONE_STEPS = 32
MONOTONE_INDICES_PER_THREAD = 500


def optimal_paths(costs: Tensor, steps: Sequence[int], start: int = 0) -> dict[int, list[int]]:
    """The paths of least total cost from index `start` to the last, one per number of steps; exact.

    A total is the sum from the first step to the last, each partial sum rounded to float64, as in
    `CostTable.total`. Ties: of the last indices but one that give the least total, the smallest is taken; then
    likewise for the path up to there.

    One pass gives every K up to the largest asked for, in time O(max(steps) M^2), on as many threads as torch
    uses. Memory beyond `costs`: at most about one more table of that size, the returned lists included.

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
    costs = costs.detach()[start:, start:]
    begun = 0.0 + costs[0]
    begun[0] = math.inf
    paths = _paths(costs, begun, 1, steps, f"from index {start} to {last}")
    # One integer object per grid index, not per entry: the paths for every K have M^2 / 2 entries.
    indices = np.array(range(start, last + 1), dtype=object)
    return {K: indices[np.concatenate([[0], path])].tolist() for K, path in zip(steps, paths, strict=True)}


def optimal_paths_from_pairs(costs: Tensor, first_pairs: Tensor, steps: Sequence[int]) -> dict[int, list[int]]:
    """The paths of least total cost from index 0 to the last, where the first step depends on its second node.

    C[2, n_2] = min over n_1 of first_pairs[n_1, n_2], then as in `optimal_paths`, with its rounding and its rule
    for ties. This is how the decoder of improved-diffusion, whose variance is the second retained step's, is
    optimised exactly.

    Args:
        costs: as for `optimal_paths`; row 0 is not used.
        first_pairs: float64 [M+1, M+1]; first_pairs[n_1, n_2] is the cost of the steps (0, n_1) and (n_1, n_2)
            together, +inf where they are forbidden and unless 1 <= n_1 < n_2.
        steps: the numbers of steps K, each from 2 to M.

    Returns:
        For each K, in the order given, the grid indices 0 = i_0 < ... < i_K = M.

    Raises:
        UserError: as `optimal_paths`, for either table; a single step, which has no second node.
    """
    check_costs(costs)
    last = len(costs) - 1
    check_first_pairs(first_pairs, last + 1)
    steps = _check_steps(steps, last)
    if 1 in steps:
        raise UserError(
            "steps holds 1, but one step has no second node, which the first step's cost depends on here; "
            "a number of steps must be at least 2."
        )
    first_pairs = first_pairs.detach()
    begun = first_pairs.amin(dim=0).to(costs.device)
    paths = _paths(costs.detach(), begun, 2, steps, f"from index 0 to {last}")
    indices = np.array(range(last + 1), dtype=object)
    n_1 = first_pairs.argmin(dim=0).cpu().numpy()
    paths = [np.concatenate([[0, n_1[path[0]]], path]) for path in paths]
    return {K: indices[path].tolist() for K, path in zip(steps, paths, strict=True)}


def _paths(costs: Tensor, begun: Tensor, done: int, steps: list[int], ends: str) -> list[NDArray[np.int32]]:
    """How the best paths go on that have come to index t in `done` steps at the cost begun[t].

    Returns:
        For each K in `steps` the indices visited after `done`, ..., K steps; `ends` serves the message alone.
    """
    further = [K - done for K in steps]
    if costs.device.type != "cpu":
        rows = row_by_row.least_costs(costs, begun, max(further))
        _check_finite(torch.stack([rows[k][-1] for k in further]).tolist(), steps, ends)
        return [path.cpu().numpy() for path in row_by_row.follow_back(costs, rows, further)]
    from fewstep.search.kernels import min_plus  # loads numba and compiles: about a second, the first time

    table, threads = costs.numpy(), torch.get_num_threads()
    least = _least_costs(table, begun.numpy(), max(further), threads)
    _check_finite(least.at(further, len(table) - 1), steps, ends)
    return min_plus.follow_back(table, least, further, threads)


def _least_costs(costs: NDArray[np.float64], begun: NDArray[np.float64], most: int, threads: int) -> LeastCosts:
    """C[k, t] for k = 0 .. most, by whichever compiled way is faster."""
    from fewstep.search.kernels import min_plus

    least = min_plus.LeastCosts.begin(begun, most)
    large = most >= MONOTONE_STEPS and len(costs) > threads * MONOTONE_INDICES_PER_THREAD
    if large and costs.flags.c_contiguous:
        from fewstep.search.kernels import quadrangle

        if quadrangle.holds(costs):
            from fewstep.search.kernels import monotone

            monotone.fill(costs, least)
            return least
    min_plus.fill(costs, least, threads)
    return least


def _check_finite(totals: list[float], steps: list[int], ends: str) -> None:
    for K, total in zip(steps, totals, strict=True):
        if not math.isfinite(total):
            raise UserError(
                f"steps holds {K}, but no path of {K} steps {ends} has a finite cost: each takes a forbidden step "
                f"(+inf)."
            )


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
    """`dp`: the exactly optimal schedule of an additive objective on the grid, for every K in one pass.

    An objective that is linearised is no sum over steps, but has a table near any path. For each K, from the best
    path of one table that is around none, the table around the last path gives the next one
    (fewstep.search.linearisation), until a path comes back or MOST_LINEARISATIONS are done, and the schedule of
    the best true value is kept; the best of all it need not be. Its `provenance["found"]` holds the number of
    `linearisations` and that `value`.
    """

    name = "dp"
    needs_objective = True
    needs: Sequence[str] = ()

    def check(self, objective: Objective | None, process: Process) -> None:
        """Raise a UserError unless there is an objective that is a sum over steps."""
        if objective is None:
            raise UserError("The search 'dp' needs an objective; give one, such as elbo.")
        if not objective.additive:
            raise UserError(
                f"The search 'dp' needs an objective that is a sum over steps, and {objective.name!r} is none; "
                "take another search, such as gradient."
            )

    def __call__(
        self,
        objective: Objective | None,
        statistics: Statistics,
        denoiser: Denoiser,
        steps: Sequence[int],
    ) -> dict[int, Schedule]:
        """The schedules of least total cost.

        Raises:
            UserError: no objective that is a sum over steps, or steps that the grid does not allow: a single one
                neither, where the objective's first step depends on its second node.
        """
        self.check(objective, denoiser.process)
        assert objective is not None
        check_steps(steps, denoiser.process)
        objective.check_statistics(statistics, denoiser)
        schedules = self._best(objective, objective.edge_costs(statistics), denoiser.process, steps)
        if objective.linearised:
            return {K: self._linearised(objective, statistics, denoiser, first) for K, first in schedules.items()}
        return schedules

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """None: objectives have tables and values of statistics."""
        return Calls()

    def _best(
        self, objective: Objective, table: CostTable, process: Process, steps: Sequence[int]
    ) -> dict[int, Schedule]:
        """The schedules of least total cost of a table."""
        provenance = {"search": self.name, "objective": objective.name}
        if objective.solver is not None:
            provenance["solver"] = objective.solver
        if max(steps) > (most := len(table.times) - 1):
            raise UserError(
                f"The objective {objective.name!r} is of a teacher of {most} steps, so that no schedule can have "
                f"more; given was {max(steps)}. Set statistics.teacher.steps to more."
            )
        if table.tail != 1:
            paths = optimal_paths_with_tail(table.costs, table.tail, steps)
        elif table.first_pairs is None:
            paths = optimal_paths(table.costs, steps)
        else:
            paths = optimal_paths_from_pairs(table.costs, table.first_pairs, steps)
        return {K: Schedule(table.times[path], process, provenance) for K, path in paths.items()}

    def _linearised(
        self, objective: Objective, statistics: Statistics, denoiser: Denoiser, first: Schedule
    ) -> Schedule:
        """The best schedule of the linearisations that begin with `first`, and what was found out on the way."""
        K, process = first.steps, denoiser.process

        def next_after(schedule: Schedule) -> Schedule:
            return self._best(objective, objective.edge_costs(statistics, schedule), process, [K])[K]

        def value(schedule: Schedule) -> float:
            return objective.value(statistics, schedule, denoiser)

        found = successive_linearisation(first, next_after, value)
        facts = {"linearisations": len(found.values), "value": found.value}
        return Schedule(found.schedule.times, process, {**first.provenance, "found": facts})
