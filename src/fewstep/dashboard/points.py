"""Rows of results as a dashboard takes them: points of curves over K or network calls, single numbers, a table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fewstep.judging.rounds import AFTER, CHANGE
from fewstep.report.estimates import Estimate
from fewstep.report.rounds import alternations
from fewstep.results import COLUMNS, Result

STEPS, NFE, ROUNDS = "steps", "nfe", "rounds"
ERRORS = "standard_error"  # of a curve's points: the same name behind this word
Cell = str | float | bool | None


class Curve(NamedTuple):
    """A line of a plot.

    Attributes:
        name: `metric/variance/decoder/solver/schedule optimizer`, of which what does not apply is left out.
        axis: what it is over: `steps`, `nfe` or `rounds`.
        points: its values and, where there are any, their standard errors.
    """

    name: str
    axis: str
    points: Sequence[Mapping[str, float]]


def name_of(row: Result) -> str:
    """What a dashboard calls a row's metric: words that a regular expression tells apart."""
    tuned = f"{row.schedule_optimizer}_tuned" if row.finetuned else row.schedule_optimizer
    parts = (row.metric, row.variance, row.decoder, row.solver, tuned if row.schedule_optimizer else None)
    return "/".join(word(part) for part in parts if part is not None)


def word(text: str) -> str:
    """Letters, digits, underscores and dashes of a name, which is all that panels take."""
    return re.sub(r"[^\w-]+", "_", text, flags=re.ASCII).strip("_")


def curves(rows: Sequence[Result]) -> list[Curve]:
    """Every number of a schedule over its number of steps, of samples over network calls; points have both.

    They are means over sampling seeds. What a schedule has several of, such as its nodes, is no curve.
    """
    found: dict[tuple[str, str], dict[tuple[int, int | None], Estimate]] = {}
    several: set[str] = set()
    for row in rows:
        if row.steps is None or row.metric.startswith((AFTER, CHANGE)):
            continue
        name = name_of(row)
        axis = STEPS if row.solver is None else NFE
        estimate = found.setdefault((name, axis), {}).setdefault((row.steps, row.nfe), Estimate())
        if (row.train_seed, row.sample_seed) in estimate.values:
            several.add(name)
        else:
            estimate.add(row)
    lines = [_curve(name, axis, by_k) for (name, axis), by_k in found.items() if name not in several]
    return lines + round_curves(rows)


def _curve(name: str, axis: str, by_k: Mapping[tuple[int, int | None], Estimate]) -> Curve:
    points = []
    for steps, nfe in sorted(by_k, key=lambda k: (k[0], k[1] or 0)):
        at = {STEPS: steps} | ({} if nfe is None else {NFE: nfe})
        points.append(at | _point(name, by_k[steps, nfe]))
    return Curve(name, axis, points)


def _point(name: str, estimate: Estimate) -> dict[str, float]:
    error = estimate.standard_error
    return {name: estimate.mean} | ({} if error is None else {f"{ERRORS}/{name}": error})


def round_curves(rows: Sequence[Result]) -> list[Curve]:
    """The loss that search and fine-tuning lower in turn, over rounds: a search ends half a round."""
    lines = []
    for one in alternations(rows):
        name = f"loss_over_rounds/{word(one.line.optimizer)}/k{one.steps:03d}"
        points = [
            {ROUNDS: moment.round - (0.5 if moment.phase == "search" else 0.0)} | _point(name, loss)
            for moment, loss in one.loss.items()
        ]
        lines.append(Curve(name, ROUNDS, points))
    return lines


def numbers(rows: Iterable[Result]) -> dict[str, float]:
    """The numbers that are of no schedule in particular, such as the floor of a Fréchet distance."""
    return {name_of(row): row.value for row in rows if row.steps is None}


def table(rows: Iterable[Result]) -> list[Iterable[Cell]]:
    """Every row, its cells in the order of `COLUMNS`."""
    return [[getattr(row, column) for column in COLUMNS] for row in rows]
