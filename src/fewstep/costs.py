"""The cost table: what an objective charges for every single step of a schedule."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import UserError


@dataclass(frozen=True, eq=False)
class CostTable:
    """An objective's cost of one step from t to s, for every pair of times.

    Args:
        times: float64 [M+1], ascending and finite.
        costs: float64 [M+1, M+1]; costs[s, t] is the cost of the step from times[t] to times[s], +inf where
            that step is forbidden and wherever s >= t. Costs may be negative.
        unit: what the costs are counted in, such as "nats/example".
        first_pairs: float64 [M+1, M+1], for objectives whose first step depends on its second node:
            first_pairs[n_1, n_2] is the cost of the steps (0, n_1) and (n_1, n_2) together, +inf where they are
            forbidden and unless 1 <= n_1 < n_2. None where every step's cost is its own.
        tail: what the cost of all steps below is multiplied by with every further step upwards; 1 where a path's
            cost is the sum of its steps.
        dimensions: D = C H W of an example, where the unit is of an example and bits/dim can be asked of it.

    Raises:
        UserError: on construction, if a shape, a type or an entry is not as stated above.
    """

    times: Tensor
    costs: Tensor
    unit: str
    first_pairs: Tensor | None = None
    dimensions: int | None = None
    tail: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or not self.unit:
            raise UserError(f"unit is {self.unit!r}; it must name what the costs are counted in, as a string.")
        check_costs(self.costs)
        _check_times(self.times, len(self.costs))
        _check_triangle(self.costs, "costs", "costs[s, t] must be +inf unless s < t")
        if not 0 < self.tail < math.inf or (self.tail != 1 and self.first_pairs is not None):
            raise UserError(f"tail is {self.tail}; it must be positive, and 1 where there are first pairs.")
        if self.first_pairs is not None:
            check_first_pairs(self.first_pairs, len(self.costs))

    def total(self, path: Sequence[int]) -> float:
        """Sum of the path's steps, those below multiplied by `tail` at each; +inf if one of them is forbidden.

        Constants such as the prior are the objective's to add. The steps are added from the first to the
        last, each sum rounded to float64, so that the total of a path from `optimal_paths` equals the
        programme's own value to the last bit. Where the table has `first_pairs`, a path from index 0 begins
        with its first pair, likewise as `optimal_paths_from_pairs` does.

        Args:
            path: ascending grid indices, at least two.

        Raises:
            UserError: if the path does not ascend or leaves the table, or is a single step from index 0 where
                the table has `first_pairs`.
        """
        indices = self._indices(path)
        # Not sum(), which compensates its rounding from Python 3.12 on.
        total = 0.0
        if self.first_pairs is not None and indices[0] == 0:
            if len(indices) == 2:
                raise UserError(
                    f"path is {indices}, but one step has no second node, which the first step's cost depends on "
                    f"here; a path from index 0 needs at least two steps."
                )
            total = self.first_pairs[indices[1], indices[2]].item()
            indices = indices[2:]
        for cost in self.costs[indices[:-1], indices[1:]].tolist():
            total = self.tail * total + cost
        return total

    def _indices(self, path: Sequence[int]) -> list[int]:
        try:
            indices = [operator.index(i) for i in path]
        except TypeError as error:
            raise UserError(f"path is {path!r}; it must be a sequence of grid indices.") from error
        if len(indices) < 2:
            raise UserError(f"path is {indices}; it needs at least two grid indices, its start and its end.")
        last = len(self.costs) - 1
        for i in indices:
            if not 0 <= i <= last:
                raise UserError(f"path goes through index {i}; the table's indices are 0 to {last}.")
        for s, t in itertools.pairwise(indices):
            if s >= t:
                raise UserError(f"path goes from index {s} to index {t}; its indices must ascend.")
        return indices


def check_costs(costs: Tensor) -> None:
    """Refuse what can be no table of costs, wherever its entries stand.

    Args:
        costs: float64 [M+1, M+1], M >= 1, without NaN and -inf.

    Raises:
        UserError: naming what is wrong, for an entry the first such pair of indices.
    """
    _check_float64(costs, "costs")
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1] or len(costs) < 2:
        raise UserError(f"costs has shape {list(costs.shape)}; it must be [M+1, M+1] with M at least 1.")
    _check_entries(costs, "costs")


def check_first_pairs(first_pairs: Tensor, size: int) -> None:
    """Refuse what can be no table of first pairs beside costs of `size` rows.

    Args:
        first_pairs: float64 [M+1, M+1] without NaN and -inf, +inf unless 1 <= n_1 < n_2.
        size: M+1.

    Raises:
        UserError: naming what is wrong, for an entry the first such pair of indices.
    """
    _check_float64(first_pairs, "first_pairs")
    if list(first_pairs.shape) != [size, size]:
        raise UserError(
            f"first_pairs has shape {list(first_pairs.shape)}; costs of {size} rows need [{size}, {size}]."
        )
    _check_entries(first_pairs, "first_pairs")
    rule = "first_pairs[n_1, n_2] must be +inf unless 1 <= n_1 < n_2"
    finite = (first_pairs[0] < math.inf).nonzero()
    if len(finite):
        n_2 = int(finite[0])
        raise UserError(f"first_pairs[0, {n_2}] is {float(first_pairs[0, n_2])}; {rule}.")
    _check_triangle(first_pairs, "first_pairs", rule)


def _check_float64(costs: Tensor, name: str) -> None:
    if not isinstance(costs, Tensor):
        raise UserError(f"{name} is a {type(costs).__name__}; it must be a float64 tensor.")
    if costs.dtype != torch.float64:
        raise UserError(f"{name} is {costs.dtype}; it must be torch.float64, for rounding changes the best path.")


def _check_entries(costs: Tensor, name: str) -> None:
    """Refuse NaN and -inf."""
    # A row's minimum is NaN if one of its entries is: no copy of the table is needed.
    refused = ~(costs.amin(dim=1) > -math.inf)
    if refused.any():
        s = int(refused.nonzero()[0])
        t = int((~(costs[s] > -math.inf)).nonzero()[0])
        raise UserError(
            f"{name}[{s}, {t}] is {float(costs[s, t])}; a cost is finite, or +inf for a forbidden step."
        )


def _check_times(times: Tensor, size: int) -> None:
    if not isinstance(times, Tensor) or times.dtype != torch.float64:
        given = times.dtype if isinstance(times, Tensor) else type(times).__name__
        raise UserError(f"times is {given}; it must be a float64 tensor.")
    if list(times.shape) != [size]:
        raise UserError(f"times has shape {list(times.shape)}; costs of {size} rows need [{size}].")
    infinite = (~times.isfinite()).nonzero()
    if len(infinite):
        i = int(infinite[0])
        raise UserError(f"times[{i}] is {float(times[i])}; times must be finite.")
    falling = (times.diff() <= 0).nonzero()
    if len(falling):
        i = int(falling[0])
        raise UserError(
            f"times[{i}] = {float(times[i])!r} is followed by {float(times[i + 1])!r}; times must ascend."
        )


def _check_triangle(costs: Tensor, name: str, rule: str) -> None:
    """Refuse a cost on or below the diagonal."""
    least = torch.stack([row[: s + 1].amin() for s, row in enumerate(costs)])
    finite = (least < math.inf).nonzero()
    if len(finite):
        s = int(finite[0])
        t = int((costs[s, : s + 1] < math.inf).nonzero()[0])
        raise UserError(f"{name}[{s}, {t}] is {float(costs[s, t])}; {rule}.")
