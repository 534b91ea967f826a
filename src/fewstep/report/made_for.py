"""What a schedule that was made for one solver costs on another."""

import math
from collections.abc import Mapping, Sequence

from fewstep.report.estimates import Estimate, Line, Panel
from fewstep.report.paired import paired_difference
from fewstep.report.printing import NOTHING, fid_decimals, number, signed
from fewstep.report.rows import SOLVERS, distinct, fid_panels
from fewstep.report.tables import Cell, Table
from fewstep.results import Result


def made_for(rows: Sequence[Result]) -> dict[str, str]:
    """Schedule optimizer → the solver that its schedules were made for, where they were made for one."""
    return {
        row.schedule_optimizer: row.solver
        for row in rows
        if row.metric == "node_log_snr" and row.schedule_optimizer is not None and row.solver is not None
    }


def made_for_table(rows: Sequence[Result], metric: str) -> Table | None:
    """Solvers that sample × solvers that schedules were made for, by a Fréchet distance; None of fewer than two.

    Of the schedules made for a solver the one counts that is best on it, which its users would choose.
    """
    solver_of = made_for(rows)
    panels = {panel.solver: panel for panel in fid_panels(rows, metric) if panel.solver is not None}
    solvers = distinct(solver_of.values(), SOLVERS)
    sampled = [solver for solver in solvers if solver in panels]
    if len(solvers) < 2 or not sampled:
        return None
    steps = sorted({k for solver in sampled for k in panels[solver].steps})
    decimals = fid_decimals([panels[solver] for solver in sampled])
    table = []
    for judged in sampled:
        for other in (solver for solver in solvers if solver != judged):
            chosen = [_pair(panels, solver_of, judged, other, k) for k in steps]
            if any(chosen):
                table.append([Cell(judged), Cell(other), *(_cell(pair, decimals) for pair in chosen)])
    caption = (
        f"What a schedule made for one solver costs on another: {metric} with it minus that with one made for the "
        "solver that samples, ± half a 95 % interval over paired seeds. Of the schedules made for one solver the "
        "lowest mean with that solver decides; small: its schedule optimizer."
    )
    return Table(caption, ["samples with", "made for", *(f"K = {k}" for k in steps)], table, headings=2)


def _pair(
    panels: Mapping[str, Panel], solver_of: Mapping[str, str], judged: str, other: str, k: int
) -> tuple[Line, Estimate, Estimate] | None:
    """At K steps the best schedule of another solver, and what it and the judged solver's own best give there."""
    here = {line: by_k[k] for line, by_k in panels[judged].untuned.items() if k in by_k}
    at_home = panels[other].untuned if other in panels else panels[judged].untuned
    own = [line for line in here if solver_of.get(line.optimizer) == judged]
    foreign = [line for line in here if solver_of.get(line.optimizer) == other]
    if not own or not foreign:
        return None
    lowest = min(foreign, key=lambda line: at_home[line][k].mean if k in at_home.get(line, {}) else math.inf)
    return lowest, here[lowest], here[min(own, key=lambda line: here[line].mean)]


def _cell(pair: tuple[Line, Estimate, Estimate] | None, decimals: int) -> Cell:
    if pair is None:
        return Cell(NOTHING)
    line, foreign, own = pair
    difference = paired_difference(foreign, own)
    width = number(difference.half_width, decimals) if math.isfinite(difference.half_width) else ""
    return Cell(signed(difference.mean, decimals), width, detail=line.label)
