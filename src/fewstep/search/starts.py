"""Where a descent may start: the fixed rules' schedules, and the optimal path of an additive objective."""

from collections.abc import Callable, Sequence

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.schedule import Schedule
from fewstep.search.base import FixedRule
from fewstep.search.dp import Dp
from fewstep.search.even import Even
from fewstep.search.karras import Karras
from fewstep.search.log_snr import LogSnr
from fewstep.search.tangent import Tangent
from fewstep.statistics.image_sums import DenoisingError

DP = "dp"
RULES: dict[str, Callable[[int, float], FixedRule]] = {
    "even": lambda levels, data_std: Even(),
    "log_snr": lambda levels, data_std: LogSnr(levels),
    "karras": lambda levels, data_std: Karras(levels=levels),
    "tangent": lambda levels, data_std: Tangent(data_std, levels),
}
STARTS = (*RULES, DP)


def rule_schedules(
    names: Sequence[str], denoiser: Denoiser, steps: int, levels: int, data_std: float
) -> dict[str, Schedule]:
    """Name → the schedule of so many steps, of the fixed rules among `names`."""
    return {
        name: RULES[name](levels, data_std)(None, {}, denoiser, [steps])[steps] for name in names if name in RULES
    }


def holds_whole_grid(statistics: Statistics, T: int) -> bool:
    """Whether the denoising errors are measured at all T timesteps; a teacher's nodes are as many as they are."""
    return all(
        len(measured.indices) == T for measured in statistics.values() if isinstance(measured, DenoisingError)
    )


def optimal_schedules(
    objective: Objective, statistics: Statistics, denoiser: Denoiser, steps: Sequence[int]
) -> dict[int, Schedule]:
    """K → dp's schedule, for the K's that have one.

    Empty for an objective that is no sum over steps, and for statistics at some timesteps alone.
    """
    if not objective.additive or not holds_whole_grid(statistics, denoiser.process.T):
        return {}
    try:
        return Dp()(objective, statistics, denoiser, steps)
    except UserError:
        pass  # one of the K's has no path of finite cost
    found: dict[int, Schedule] = {}
    for K in steps:
        try:
            found |= Dp()(objective, statistics, denoiser, [K])
        except UserError:
            continue
    return found
