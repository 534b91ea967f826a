"""What runs have measured of one row of a paper's table: a line for every set-up that they were measured in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fewstep.provenance import canonical
from fewstep.report.estimates import Estimate, Line
from fewstep.report.rows import FULL_GRID
from fewstep.report.runs import MeasuredRun
from fewstep.results import Result

UNTUNED, ONCE, IN_TURN = "untuned", "tuned once", "searched and tuned in turn"


@dataclass(frozen=True)
class Method:
    """What a row of a paper's table is of, in the words of results.

    Attributes:
        schedule_optimizer: its name.
        solver: what its samples are made with; None for a likelihood.
        solver_settings: what that solver must be set to.
        variance: the variance kind, where the row is of one alone; None for all that the network may have.
        tuning: whether the network was tuned: `UNTUNED`, `ONCE` or `IN_TURN`.
    """

    schedule_optimizer: str
    solver: str | None = None
    solver_settings: Mapping[str, Any] = field(default_factory=dict)
    variance: str | None = None
    tuning: str = UNTUNED

    def has(self, run: MeasuredRun, row: Result) -> bool:
        """Whether a measured number is of this method."""
        line = Line(row.schedule_optimizer or "")
        tuning = UNTUNED if not row.finetuned else ONCE if line.rounds == 1 else IN_TURN
        settings = run.config.get("solver", {}).get(self.solver, {}) if self.solver else {}
        return (
            (line.untuned.optimizer, row.solver, tuning) == (self.schedule_optimizer, self.solver, self.tuning)
            and all(settings.get(key) == value for key, value in self.solver_settings.items())
            and self.variance in (None, row.variance)
        )


class Kind(NamedTuple):
    """What the numbers of one line have in common; `searched` is the search's own settings."""

    set_up: str
    variance: str | None
    decoder: str | None
    searched: str


@dataclass
class MeasuredLine:
    """Numbers of one set-up.

    Attributes:
        kind: what they have in common.
        runs: that measured them.
        rows: the measured numbers.
        cells: K → estimate over the seeds; a number that two runs measured alike counts once.
    """

    kind: Kind
    runs: list[MeasuredRun] = field(default_factory=list)
    rows: list[Result] = field(default_factory=list)
    cells: dict[int, Estimate] = field(default_factory=dict)

    def add(self, run: MeasuredRun, row: Result) -> None:
        """Take in a number of a run."""
        assert row.steps is not None
        estimate = self.cells.setdefault(row.steps, Estimate())
        if (row.train_seed, row.sample_seed) not in estimate.values:
            estimate.add(row)
            self.rows.append(row)
            if run not in self.runs:
                self.runs.append(run)


def measured_lines(
    runs: Sequence[MeasuredRun], metric: str, method: Method, variances: Sequence[str], whole_grid: int | None
) -> list[MeasuredLine]:
    """The lines of one row, by variance kind and decoder.

    Args:
        runs: of the network that the row is of.
        metric: `bits_per_dim`, or a Fréchet distance with its features.
        method: what the row is of.
        variances: the variance kinds that a number may be of; one that states none may be of any.
        whole_grid: the K of the whole grid, whose number belongs to the row although no schedule optimizer has a
            part in it; None where it does not.
    """
    found: dict[Kind, MeasuredLine] = {}
    for run, row in _numbers(runs, metric, variances):
        if method.has(run, row) and row.schedule_optimizer != FULL_GRID:
            search = run.search(row.variance)
            searched = canonical(search.config["schedule_optimizer"]) if search else ""
            settings = canonical(run.config["solver"][row.solver]) if row.solver else ""
            kind = Kind(run.set_up, row.variance, row.decoder, searched + settings)
            found.setdefault(kind, MeasuredLine(kind)).add(run, row)
    for run, row in _numbers(runs, metric, variances):
        of_row = row.steps == whole_grid and method.variance in (None, row.variance)
        if row.schedule_optimizer == FULL_GRID and of_row:
            alone = Kind(run.set_up, row.variance, row.decoder, "")
            same = [line for kind, line in found.items() if kind[:3] == alone[:3]]
            for line in same or [found.setdefault(alone, MeasuredLine(alone))]:
                line.add(run, row)
    known = [*variances, None]
    return sorted(found.values(), key=lambda line: (known.index(line.kind.variance), line.kind.decoder or ""))


def _numbers(
    runs: Sequence[MeasuredRun], metric: str, variances: Sequence[str]
) -> Iterator[tuple[MeasuredRun, Result]]:
    for run in runs:
        for row in run.rows:
            if row.metric == metric and row.steps is not None and row.variance in (None, *variances):
                yield run, row
