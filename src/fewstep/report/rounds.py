"""The rounds of search and fine-tuning: the loss that both lower, after each phase, and which round is kept."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fewstep.report.estimates import Estimate, Line
from fewstep.report.printing import count, listing, number, signed, span, with_error
from fewstep.report.style import DPI, GRID, Style, frame
from fewstep.report.tables import Cell, Table
from fewstep.results import Result

_METRIC = re.compile(r"loss_(?P<kind>after|change)_round(?P<round>\d+)_(?P<phase>search|finetune)")
PHASES = {"search": "search", "finetune": "fine-tuning"}


class Moment(NamedTuple):
    """The end of a phase: the number of its round, and `search` or `finetune`."""

    round: int
    phase: str

    @property
    def words(self) -> str:
        """As a sentence calls it."""
        return f"round {self.round}’s {PHASES[self.phase]}"


class Alternation(NamedTuple):
    """The rounds of one schedule optimizer at one K, over training seeds.

    Attributes:
        line: the schedule optimizer, with the rounds that were asked for.
        steps: K.
        loss: after each phase, in their order.
        change: against the phase before, paired over images; the first has none.
        made: how many rounds there were.
        kept: which is the best, 0 for the untuned model.
    """

    line: Line
    steps: int
    loss: dict[Moment, Estimate]
    change: dict[Moment, Estimate]
    made: Estimate
    kept: Estimate

    @property
    def name(self) -> str:
        """As a table calls it."""
        return f"{self.line.label}, K = {self.steps}"

    @property
    def decimals(self) -> int:
        """Those that show two digits of the standard error."""
        errors = [error for one in self.loss.values() if (error := one.standard_error)]
        return max(0, 1 - math.floor(math.log10(min(errors)))) if errors else 3

    @property
    def rises(self) -> list[tuple[Moment, float, float]]:
        """Phases after which the loss of some training seed was higher beyond the standard error, and by what."""
        return [
            (moment, value, error)
            for moment, change in self.change.items()
            for seeds, value in change.values.items()
            if (error := change.errors[seeds]) is not None and value > error
        ]


def alternations(rows: Sequence[Result]) -> list[Alternation]:
    """Every alternation of the results, in their order.

    Raises:
        UserError: a phase was measured twice with one seed.
    """
    found: dict[tuple[str, int], Alternation] = {}
    for row in rows:
        metric = _METRIC.fullmatch(row.metric)
        if row.schedule_optimizer is None or row.steps is None:
            continue
        if metric is None and row.metric not in ("rounds_made", "kept_round"):
            continue
        empty = Alternation(Line(row.schedule_optimizer), row.steps, {}, {}, Estimate(), Estimate())
        one = found.setdefault((row.schedule_optimizer, row.steps), empty)
        if metric is None:
            (one.made if row.metric == "rounds_made" else one.kept).add(row)
            continue
        moments = one.loss if metric["kind"] == "after" else one.change
        moments.setdefault(Moment(int(metric["round"]), metric["phase"]), Estimate()).add(row)
    return [
        one._replace(loss=_in_order(one.loss), change=_in_order(one.change)) for one in found.values() if one.loss
    ]


def _in_order(estimates: dict[Moment, Estimate]) -> dict[Moment, Estimate]:
    order = list(PHASES)
    keys = sorted(estimates, key=lambda moment: (moment.round, order.index(moment.phase)))
    return {moment: estimates[moment] for moment in keys}


def rounds_findings(rows: Sequence[Result]) -> list[str]:
    """A sentence per alternation: the loss from its first phase to its last, whether it rose, what is kept."""
    return [_sentence(one) for one in alternations(rows)]


def _sentence(one: Alternation) -> str:
    (first, *_), (*_, last) = one.loss.values(), one.loss.values()
    decimals, images = one.decimals, count(sorted(first.n_images))
    losses = [with_error(loss.mean, loss.standard_error, decimals) for loss in (first, last)]
    rises = [
        f"by {number(value, decimals)} ± {number(error, decimals)} in {moment.words}"
        for moment, value, error in one.rises
    ]
    rose = (
        f"rises beyond its standard error {listing(rises)}" if rises else "never rises beyond its standard error"
    )
    kept = span(list(one.kept.values.values()), 0)
    best = "the untuned model on its own schedule" if kept == "0" else f"round {kept}"
    made = span(list(one.made.values.values()), 0)
    stopped = (
        f"; of {one.line.rounds} rounds {made} were made, as fine-tuning then improved nothing and others would "
        "repeat it"
        if min(one.made.values.values()) < one.line.rounds
        else ""
    )
    return (
        f"{one.line.untuned.optimizer} at K = {one.steps}, {one.line.rounds} rounds of search and fine-tuning: "
        f"the loss that both lower goes from {losses[0]} for the untuned model to {losses[1]} on {images} "
        f"validation images, and {rose}; kept is {best}{stopped}."
    )


def rounds_table(rows: Sequence[Result]) -> Table | None:
    """The loss after every phase and its change against the phase before; None where nothing was alternated."""
    table = []
    for one in alternations(rows):
        kept = {int(value) for value in one.kept.values.values()}
        for moment, loss in one.loss.items():
            best = moment.phase == "finetune" and moment.round in kept
            best = best or (0 in kept and moment == next(iter(one.loss)))
            cells = [_cell(number(loss.mean, one.decimals), loss, one.decimals)._replace(bold=best), Cell("")]
            if change := one.change.get(moment):
                cells[1] = _cell(signed(change.mean, one.decimals), change, one.decimals)
            table.append([Cell(one.name), Cell(str(moment.round)), Cell(PHASES[moment.phase]), *cells])
    if not table:
        return None
    caption = (
        "The objective’s value on validation images after every phase, ± standard error over images, and its "
        "change from the phase before, paired over images. The first search is of the untuned model. Bold: the "
        "round that is kept."
    )
    return Table(caption, ["schedule optimizer", "round", "phase", "loss", "change"], table, headings=3)


def _cell(text: str, estimate: Estimate, decimals: int) -> Cell:
    error = estimate.standard_error
    return Cell(text, "" if error is None else number(error, decimals))


def rounds_plot(rows: Sequence[Result], style: dict[str, Style]) -> Figure:
    """The loss over phases, a panel per alternation: circles after a search, stars after fine-tuning."""
    found = alternations(rows)
    columns = min(3, len(found))
    lines = math.ceil(len(found) / columns)
    figure = Figure(figsize=(max(3.6 * columns, 5.0), 2.7 * lines), dpi=DPI, layout="constrained")
    for i, one in enumerate(found):
        ax = figure.add_subplot(lines, columns, i + 1)
        colour = style[one.line.optimizer].colour
        at = [moment.round - (0.5 if moment.phase == "search" else 0.0) for moment in one.loss]
        means = [loss.mean for loss in one.loss.values()]
        errors = [loss.standard_error or 0.0 for loss in one.loss.values()]
        ax.errorbar(at, means, yerr=errors, color=colour, linewidth=1.5)
        for phase, marker, size in (("search", "o", 5), ("finetune", "*", 11)):
            here = [(x, y) for x, y, moment in zip(at, means, one.loss, strict=True) if moment.phase == phase]
            ax.plot(*zip(*here, strict=True), linestyle="", marker=marker, markersize=size, color=colour)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("rounds (circle: after the search, star: after fine-tuning)" if i == 0 else "rounds")
        if i % columns == 0:
            ax.set_ylabel("loss, validation images")
        ax.grid(axis="y", color=GRID, linewidth=0.8)
        frame(ax, textwrap.fill(one.name, 34))
    return figure
