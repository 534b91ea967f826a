"""Which timesteps to measure: few, even in log-SNR, and more where the paths that are chosen depend on them.

Statistics are interpolated between measured timesteps (fewstep.statistics.interpolation). A *check* is a timestep
between two of them that is measured too: it tells by how much the costs of the steps from there were off, and then
is a node itself. Assumed, not proved, of the error that is left between two nodes:

- nowhere is it larger than what the check by which the gap arose has found: the interpolation through the check is
  better than the one that it was a check of;
- nor can the check have fallen by chance where the error changes sign: a quarter of the error of the gap that was
  divided stands, and half of that of the gaps on either side.

From this the bound on the regret follows exactly (fewstep.search.regret): the most by which the path chosen for a
K can cost more than the best one, over all errors of this size. For a trained network of digits the assumption
fails at up to a tenth of the timesteps, by up to a factor of about 2, mostly where the paths do not go, while the
true regret is some fiftieth of the bound, which lets every error take its worst sign. For a network trained for
seconds, whose errors are rough in t, it failed at a third of them, and the true regret came close to the bound.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.process import Process
from fewstep.search.regret import CostError, WorstCase, best_paths, first_costs, margins
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import averaged

FIRST = 16  # timesteps before the first checks
WHOLE = 50  # a grid of at most so many timesteps is measured whole
TYPICAL = 40  # timesteps in the end, on a longer one: 20 to 50 where networks are trained
OF_PARENT, OF_NEIGHBOUR = 0.25, 0.5  # the least errors, of the gap's that was divided and of the gaps beside
LARGEST = 1e3  # a relative error of more, or of a cost of 0, is as good as no knowledge
WORTH_A_CHECK = 0.3  # the least margin, of that of the gap that matters most

Measure = Callable[[Sequence[int]], DenoisingError]
Table = Callable[[DenoisingError], CostTable]
Gap = tuple[int, int]  # two neighbours among the measured grid indices


@dataclass(frozen=True)
class Refined:
    """Statistics at the timesteps that were needed.

    Attributes:
        measured: at these timesteps alone.
        regret_bound: the largest over tables and K's; bits/dim, or of a table without dimensions a share of
            the path's cost.
    """

    measured: DenoisingError
    regret_bound: float


@dataclass(frozen=True)
class GapError:
    """The error within a gap of one table's costs.

    Attributes:
        relative: of steps (s, t), s ≥ 1.
        first: of steps (0, t), absolute, [1]; with first pairs by n_2 − n_1 = 1 … T, [T].
    """

    relative: float
    first: Tensor

    def at_least(self, other: "GapError", share: float) -> "GapError":
        """The larger of this one and a share of another."""
        return GapError(max(self.relative, share * other.relative), torch.maximum(self.first, share * other.first))


class StepCosts(NamedTuple):
    """What a table charges for the steps from one timestep t: (s, t), s ≥ 1, and (0, t), as `first_costs` says."""

    steps: Tensor
    first: Tensor


@dataclass(frozen=True)
class RegretBound:
    """The bound for one table and K, in the unit of `Refined.regret_bound`.

    Attributes:
        regret: the bound.
        margins: how much of it the errors within each gap may make up, over path and rival.
    """

    regret: float
    margins: dict[Gap, float]


def refine(
    measure: Measure,
    process: Process,
    tables: Sequence[Table],
    steps: Sequence[int],
    tolerance: float,
) -> Refined:
    """Measure until, for every table and K, the path chosen costs at most `tolerance` more than the best one.

    Args:
        measure: statistics at grid indices, ascending; those of earlier calls are asked for again.
        process: the process of the model.
        tables: of each objective, what it makes of statistics at all timesteps.
        steps: the K's.
        tolerance: of `Refined.regret_bound`, positive.
    """
    if process.T <= WHOLE:
        return Refined(measure(range(1, process.T + 1)), 0.0)
    nodes = even_in_log_snr(process, FIRST)
    checked = [_Checked(process, table) for table in tables]
    whole = interpolated(averaged(measure(nodes)))
    for one in checked:
        one.foresee(one.table(whole), nodes)
    checks = _middles(process, itertools.pairwise(nodes))
    while True:
        nodes = sorted({*nodes, *checks.values()})
        measured = measure(nodes)
        whole = interpolated(averaged(measured))
        bounds = [bound for one in checked for bound in one.bounds(whole, checks, nodes, steps)]
        largest = max((one.regret for one in bounds), default=0.0)
        if largest <= tolerance:
            return Refined(measured, largest)
        checks = _middles(process, _worth_a_check(bounds, tolerance))


def expected_timesteps(T: int) -> int:
    """About how many timesteps of a grid are measured, exactly where it is measured whole."""
    return T if T <= WHOLE else TYPICAL


def even_in_log_snr(process: Process, n: int) -> list[int]:
    """The grid indices nearest to n log-SNRs, even from t_1 to t_T; with 1, 2 and T."""
    log_snr = process.log_snr_axis()
    wanted = torch.linspace(log_snr[0].item(), log_snr[-1].item(), n, dtype=torch.float64)
    nearest = 1 + (log_snr[:, None] - wanted).abs().argmin(0)
    return sorted({1, 2, process.T, *nearest.tolist()})


def _middles(process: Process, gaps: Iterable[Gap]) -> dict[Gap, int]:
    """Where there is one, the grid index within a gap whose log-SNR is nearest to the mean of its ends'."""
    log_snr = process.log_snr_axis()
    found = {}
    for low, high in gaps:
        if high - low > 1:
            mean = (log_snr[low - 1] + log_snr[high - 1]) / 2
            found[low, high] = low + 1 + int((log_snr[low : high - 1] - mean).abs().argmin())
    return found


class _Checked:
    """One objective's table, and what checks have told of it. No more than one table is held at a time.

    Args:
        process: the process of the model.
        table: what the objective makes of statistics at all timesteps.
    """

    def __init__(self, process: Process, table: Table) -> None:
        self.process, self.table = process, table
        self._errors: dict[Gap, GapError] = {}
        self._foreseen: dict[int, StepCosts] = {}

    def foresee(self, table: CostTable, nodes: Sequence[int]) -> None:
        """Keep what a table without them says of all timesteps that may be checked next."""
        possible = _middles(self.process, itertools.pairwise(nodes)).values()
        self._foreseen = {check: _step_costs(table, check) for check in possible}

    def bounds(
        self, whole: DenoisingError, checks: Mapping[Gap, int], nodes: Sequence[int], steps: Sequence[int]
    ) -> list[RegretBound]:
        """The bound of every K, now that `whole` knows the checks too and is measured at `nodes`."""
        table = self.table(whole)
        for gap, check in checks.items():
            found = _found(self._foreseen[check], _step_costs(table, check), pairs=table.first_pairs is not None)
            if gap in self._errors:
                found = found.at_least(self._errors.pop(gap), OF_PARENT)
            self._errors[gap[0], check] = self._errors[check, gap[1]] = found
        self.foresee(table, nodes)
        return self._bounds(table, steps)

    def _bounds(self, table: CostTable, steps: Sequence[int]) -> list[RegretBound]:
        gaps = sorted(self._errors)
        starts = torch.tensor([low for low, _ in gaps])
        error = _cost_error(self.process, [(gap, self._errors[gap]) for gap in gaps])
        worst = WorstCase(table, error)
        bounds = []
        for path in best_paths(table, steps).values():
            regret, rival = worst.regret_bound(path)
            unit = abs(table.total(path)) if table.dimensions is None else table.dimensions * math.log(2)
            of_gaps: dict[Gap, float] = {}
            for way in (path, rival):
                places = (torch.searchsorted(starts, torch.tensor(way[1:])) - 1).tolist()
                for place, margin in zip(places, margins(table, error, way).tolist(), strict=True):
                    if margin > 0:
                        of_gaps[gaps[place]] = of_gaps.get(gaps[place], 0.0) + margin / unit
            bounds.append(RegretBound(regret / unit, of_gaps))
        return bounds


def _step_costs(table: CostTable, t: int) -> StepCosts:
    return StepCosts(table.costs[1:t, t].clone(), first_costs(table, t).clone())


def _found(old: StepCosts, new: StepCosts, *, pairs: bool) -> GapError:
    """What a check has moved: the costs of the steps from its timestep; with `pairs` the first step's by n_2."""
    moved = (new.steps - old.steps).abs() / torch.minimum(new.steps.abs(), old.steps.abs())
    relative = max(moved.nan_to_num(nan=0.0).clamp(max=LARGEST).tolist(), default=0.0)
    first = (new.first - old.first).abs().nan_to_num(nan=0.0)
    if not pairs:
        return GapError(relative, first[None])
    check = len(new.steps) + 1
    by_offset = first[check + 1 :]
    return GapError(relative, torch.cat([by_offset, by_offset[-1:].expand(check)]))


def _cost_error(process: Process, errors: Sequence[tuple[Gap, GapError]]) -> CostError:
    """The error at every timestep, from those of the gaps in order; none at those measured."""
    size = process.T + 1
    in_pairs = len(errors[0][1].first) > 1
    relative = torch.zeros(size, dtype=torch.float64)
    first = torch.zeros((size, size) if in_pairs else size, dtype=torch.float64)
    for place, ((low, high), error) in enumerate(errors):
        for _, beside in errors[max(place - 1, 0) : place + 2]:
            error = error.at_least(beside, OF_NEIGHBOUR)
        relative[low + 1 : high] = error.relative
        for n_1 in range(low + 1, high):
            if in_pairs:
                first[n_1, n_1 + 1 :] = error.first[: process.T - n_1]
            else:
                first[n_1] = error.first[0]
    return CostError(relative, first)


def _worth_a_check(bounds: Sequence[RegretBound], tolerance: float) -> set[Gap]:
    """The gaps that matter most, and no more of them than bring every bound to the tolerance if all goes well."""
    above = sorted((one for one in bounds if one.regret > tolerance), key=lambda one: -one.regret)
    least = WORTH_A_CHECK * max(margin for one in above for margin in one.margins.values())
    chosen: set[Gap] = set()
    for one in above:
        excess = one.regret - tolerance - math.fsum(one.margins.get(gap, 0.0) for gap in chosen)
        for gap, margin in sorted(one.margins.items(), key=lambda item: (-item[1], item[0])):
            if excess <= 0 or margin < least:
                break
            if gap not in chosen:
                chosen.add(gap)
                excess -= margin
    return chosen
