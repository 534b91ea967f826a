"""Whether a tuned model over-fitted: training error falls and validation error rises after the best validation."""

from collections.abc import Sequence

from fewstep.report.estimates import Estimate
from fewstep.report.printing import listing, number, signed, span
from fewstep.results import Result

PLACES = {"on": "at those timesteps", "off": "midway between them"}


class TunedRows:
    """The rows of one tuned schedule.

    Args:
        rows: all of a report's.
        optimizer: whose schedule.
        steps: K.
    """

    def __init__(self, rows: Sequence[Result], optimizer: str, steps: int) -> None:
        self.rows = [row for row in rows if (row.schedule_optimizer, row.steps) == (optimizer, steps)]

    def of(self, metric: str, variance: str | None = None, decoder: str | None = None) -> Estimate | None:
        """A metric of the tuned model, over its training seeds; None where it was not measured."""
        estimate = Estimate()
        for row in self.rows:
            if row.finetuned and (row.metric, row.variance, row.decoder) == (metric, variance, decoder):
                estimate.add(row)
        return estimate if estimate.values else None


def overfitting_clause(rows: TunedRows) -> str | None:
    """What the errors after the best validation say; None where they were not measured."""
    best, last = rows.of("best_iteration"), rows.of("last_iteration")
    if best is None or last is None:
        return None
    at, of = (span(list(estimate.values.values()), 0) for estimate in (best, last))
    places = overfitted_places(rows)
    if places:
        return f"it over-fits after iteration {at}, which is kept: from there to iteration {of} {listing(places)}"
    if max(best.values.values()) == 0:
        return f"no validation of {of} iterations was better than before, so the untuned weights are kept"
    return f"over-fitting is not seen: iteration {at} of {of} is the best, and is kept"


def overfitted_places(rows: TunedRows) -> list[str]:
    """Where a tuned model over-fits, with the changes that show it; empty where it does not."""
    return [place for where, words in PLACES.items() for place in _overfitted(rows, where, words)]


def _overfitted(rows: TunedRows, where: str, words: str) -> list[str]:
    """The changes of training and validation error at a place, where they are over-fitting."""
    training, validation = (
        rows.of(f"{word}_change_after_best_{where}_schedule") for word in ("training", "validation")
    )
    if training is None or validation is None:
        return []
    if not (_beyond(validation, 1) and _beyond(training, -1)):
        return []
    figures = []
    for word, change in (("training", training), ("validation", validation)):
        error = rows.of(f"{word}_error_{where}_schedule")
        figures.append(f"{relative(change, error.mean) if error else ''} on {word} images")
    return [f"the error {words} changes by {listing(figures)}"]


def _beyond(change: Estimate, sign: int) -> bool:
    """Whether a change has a sign by more than twice its standard error."""
    error = change.standard_error
    return error is not None and sign * change.mean > 2 * error


def relative(change: Estimate, of: float) -> str:
    """A change in per cent of something, with its standard error where there is one."""
    error = change.standard_error
    plus_minus = "" if error is None else f" ± {number(100 * error / of, 1)}"
    return f"{signed(100 * change.mean / of, 1)}{plus_minus} %"
