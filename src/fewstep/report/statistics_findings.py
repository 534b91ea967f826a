"""What a search with few timesteps or few images saved, and what that may have cost; silent where it had all."""

from collections.abc import Sequence

from fewstep.report.printing import number
from fewstep.report.rows import of_metric
from fewstep.results import Result


def statistics_findings(rows: Sequence[Result]) -> list[str]:
    """Timesteps, images and network calls behind the search, with the bounds that they were chosen by."""
    if of_metric(rows, "statistics_timesteps") is None:
        return []
    sentences = [
        f"For the search the network was measured at {_largest(rows, 'timesteps')} of "
        f"{_largest(rows, 'timesteps_all')} timesteps on {_largest(rows, 'images')} images: "
        f"{_largest(rows, 'calls')} network calls instead of {_largest(rows, 'calls_all')}."
    ]
    bound = of_metric(rows, "statistics_regret_bound")
    if bound is not None:
        sentences.append(
            f"What lies between was interpolated; as checks bound it, the schedules found cost at most "
            f"{number(max(bound.values.values()), 3)} bits/dim more than with all timesteps."
        )
    error = of_metric(rows, "statistics_standard_error")
    if error is not None:
        found, wanted = max(error.values.values()), of_metric(rows, "statistics_standard_error_wanted")
        assert wanted is not None
        reached = found <= max(wanted.values.values())
        asked = f"the {number(wanted.mean, 3)} that was asked for"
        sentences.append(
            f"Over these images the schedules’ bits/dim have a standard error of at most {number(found, 3)}, "
            + (f"within {asked}." if reached else f"above {asked}, although they are the whole split.")
        )
    return sentences


def _largest(rows: Sequence[Result], name: str) -> str:
    """The largest over training seeds."""
    estimate = of_metric(rows, f"statistics_{name}")
    return number(max(estimate.values.values()), 0) if estimate is not None else "an unstated number"
