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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.process import Process
from fewstep.search.regret import CostError, best_path, first_costs, margins, regret_bound
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.interpolation import interpolated

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
    errors: dict[Gap, list[GapError]] = {}
    before = [table(interpolated(measure(nodes))) for table in tables]
    checks = {gap: _middle(process, gap) for gap in itertools.pairwise(nodes) if gap[1] - gap[0] > 1}
    while True:
        nodes = sorted({*nodes, *checks.values()})
        measured = measure(nodes)
        after = [table(interpolated(measured)) for table in tables]
        for gap, check in checks.items():
            found = [_found(*pair, check) for pair in zip(before, after, strict=True)]
            divided = errors.pop(gap, found)
            found = [new.at_least(old, OF_PARENT) for new, old in zip(found, divided, strict=True)]
            errors[gap[0], check] = errors[check, gap[1]] = found
        bounds = _bounds(process, errors, after, steps)
        largest = max((one.regret for one in bounds), default=0.0)
        if largest <= tolerance:
            return Refined(measured, largest)
        checks = {gap: _middle(process, gap) for gap in _worth_a_check(bounds, tolerance)}
        before = after


def expected_timesteps(T: int) -> int:
    """About how many timesteps of a grid are measured, exactly where it is measured whole."""
    return T if T <= WHOLE else TYPICAL


def even_in_log_snr(process: Process, n: int) -> list[int]:
    """The grid indices nearest to n log-SNRs, even from t_1 to t_T; with 1, 2 and T."""
    log_snr = process.log_snr_axis()
    wanted = torch.linspace(log_snr[0].item(), log_snr[-1].item(), n, dtype=torch.float64)
    nearest = 1 + (log_snr[:, None] - wanted).abs().argmin(0)
    return sorted({1, 2, process.T, *nearest.tolist()})


def _middle(process: Process, gap: Gap) -> int:
    """The grid index between two others whose log-SNR is nearest to the mean of theirs."""
    low, high = gap
    log_snr = process.log_snr_axis()[low - 1 : high]
    return low + 1 + int((log_snr[1:-1] - (log_snr[0] + log_snr[-1]) / 2).abs().argmin())


def _found(before: CostTable, after: CostTable, check: int) -> GapError:
    """What a check has moved: the costs of the steps from its timestep."""
    old, new = before.costs[1:check, check], after.costs[1:check, check]
    relative = ((new - old).abs() / torch.minimum(new.abs(), old.abs())).nan_to_num(nan=0.0).clamp(max=LARGEST)
    first = (first_costs(after)[check] - first_costs(before)[check]).abs().nan_to_num(nan=0.0)
    if after.first_pairs is None:
        return GapError(max(relative.tolist(), default=0.0), first[None])
    by_offset = first[check + 1 :]
    last = by_offset[-1:].expand(check)
    return GapError(max(relative.tolist(), default=0.0), torch.cat([by_offset, last]))


def _cost_error(process: Process, errors: dict[Gap, list[GapError]], number: int) -> CostError:
    """The error at every timestep; none at those measured."""
    size = process.T + 1
    of_gaps = [found[number] for _, found in sorted(errors.items())]
    in_pairs = len(of_gaps[0].first) > 1
    relative = torch.zeros(size, dtype=torch.float64)
    first = torch.zeros((size, size) if in_pairs else size, dtype=torch.float64)
    offset = (torch.arange(size) - torch.arange(size)[:, None]).clamp(min=1) - 1 if in_pairs else torch.zeros(size)
    for place, (low, high) in enumerate(sorted(errors)):
        error = of_gaps[place]
        for beside in of_gaps[max(place - 1, 0) : place + 2]:
            error = error.at_least(beside, OF_NEIGHBOUR)
        inside = slice(low + 1, high)
        relative[inside], first[inside] = error.relative, error.first[offset[inside].long()]
    return CostError(relative, first)


def _bounds(
    process: Process, errors: dict[Gap, list[GapError]], tables: Sequence[CostTable], steps: Sequence[int]
) -> list[RegretBound]:
    """The bound of every table and K."""
    gaps = sorted(errors)
    starts = torch.tensor([low for low, _ in gaps])
    found = []
    for number, table in enumerate(tables):
        error = _cost_error(process, errors, number)
        for K in steps:
            path = best_path(table, K)
            regret, rival = regret_bound(table, error, path)
            unit = abs(table.total(path)) if table.dimensions is None else table.dimensions * math.log(2)
            of_gaps: dict[Gap, float] = {}
            for way in (path, rival):
                places = (torch.searchsorted(starts, torch.tensor(way[1:])) - 1).tolist()
                for place, margin in zip(places, margins(table, error, way).tolist(), strict=True):
                    if margin > 0:
                        of_gaps[gaps[place]] = of_gaps.get(gaps[place], 0.0) + margin / unit
            found.append(RegretBound(regret / unit, of_gaps))
    return found


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
