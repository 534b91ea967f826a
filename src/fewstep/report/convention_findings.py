"""How far improved-diffusion's own arithmetic lies from the exact Φ in float64, of the same convention."""

from collections.abc import Sequence
from statistics import median

from fewstep.decoders import ImprovedDiffusion, ImprovedDiffusionTanh
from fewstep.report.printing import signed
from fewstep.report.rows import VARIANCES, distinct
from fewstep.results import Result

DECIMALS = 5


def convention_findings(rows: Sequence[Result]) -> list[str]:
    """A sentence for every variance kind under which some schedule is judged by both."""
    exact = {_of(row): row.value for row in rows if _is_bits(row, ImprovedDiffusion.name)}
    pairs = [(row, exact.get(_of(row))) for row in rows if _is_bits(row, ImprovedDiffusionTanh.name)]
    apart = [(row, row.value - value) for row, value in pairs if value is not None]
    return [
        _sentence(variance, [(row, difference) for row, difference in apart if row.variance == variance])
        for variance in distinct((row.variance for row, _ in apart), VARIANCES)
    ]


def _sentence(variance: str, apart: Sequence[tuple[Result, float]]) -> str:
    row, largest = max(apart, key=lambda item: abs(item[1]))
    schedules = "1 schedule" if len(apart) == 1 else f"{len(apart)} schedules"
    where = f"{row.schedule_optimizer}{', tuned' * bool(row.finetuned)}, K = {row.steps}"
    return (
        f"Under {variance} variance the figures in improved-diffusion’s own arithmetic (tanh approximation of Φ, "
        f"float32) differ from those of exact Φ in float64 by a median of "
        f"{signed(median(difference for _, difference in apart), DECIMALS)} bits/dim over {schedules}, at most by "
        f"{signed(largest, DECIMALS)} ({where})."
    )


def _is_bits(row: Result, decoder: str) -> bool:
    return (row.metric, row.decoder) == ("bits_per_dim", decoder)


def _of(row: Result) -> tuple[object, ...]:
    """What two rows of one schedule and model have in common."""
    return (row.schedule_optimizer, row.steps, row.variance, row.finetuned, row.train_seed, row.split)
