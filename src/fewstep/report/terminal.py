"""The table that a run ends with on the terminal: bits/dim and Fréchet distance by schedule optimizer and K."""

import io
from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from fewstep.report.estimates import Estimate, Line, Panel
from fewstep.report.printing import BITS_DECIMALS, NOTHING, count, fid_decimals, number, with_error
from fewstep.report.rows import (
    by_optimizer,
    distinct,
    fid_metrics,
    fid_panels,
    likelihood_panels,
    optimizers,
    preferred,
    read_rows,
)
from fewstep.results import Result

WIDTH = 110


def terminal_table(results: pd.DataFrame) -> Table:
    """Schedule optimizers × K: bits/dim under one variance (`optimal` if there) and distances of one solver.

    Raises:
        UserError: the results hold no value, or are of several datasets or processes.
    """
    rows = read_rows(results)
    bits = preferred(likelihood_panels(rows))
    fids = [panel for metric in fid_metrics(rows) for panel in fid_panels(rows, metric)[:1]]
    panels = [*([bits] if bits else []), *fids]
    shown = [panel.steps for panel in panels]
    table = _table(rows, panels, shown, show_errors=True)
    if not _fits(table):
        table = _table(rows, panels, shown, show_errors=False)
    while not _fits(table) and max(map(len, shown)) > 1:
        shown = [steps[::-1][::2][::-1] for steps in shown]
        table = _table(rows, panels, shown, show_errors=False)
    return table


def _fits(table: Table) -> bool:
    return Console(width=100 * WIDTH).measure(table).maximum <= WIDTH


def _table(
    rows: Sequence[Result], panels: Sequence[Panel], shown: Sequence[list[int]], *, show_errors: bool
) -> Table:
    """The table with those K of each panel that are `shown`."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    notes = [_note(panel, show_errors) for panel in panels]
    if any(panel.steps != steps for panel, steps in zip(panels, shown, strict=True)):
        notes.append("Not every K fits here; the report has them all.")
    table.caption = "\n" + "\n".join(notes)
    table.caption_justify = "left"
    table.add_column("schedule\noptimizer", no_wrap=True)
    columns = [(panel, k) for panel, steps in zip(panels, shown, strict=True) for k in steps]
    for panel, k in columns:
        name = "bits/dim" if panel.metric == "bits_per_dim" else panel.metric
        first = (panel, k) == next(column for column in columns if column[0] is panel)
        table.add_column(f"{name if first else ''}\nK = {k}", justify="right")
    variance = next((panel.variance for panel in panels if panel.metric == "bits_per_dim"), None)
    for optimizer in optimizers(rows):
        for tuned in (False, True):
            cells = [_cell(panel, optimizer, k, variance, tuned, show_errors) for panel, k in columns]
            if any(cell != NOTHING for cell in cells):
                line = Line(optimizer)
                table.add_row(line.label + (" (tuned)" if tuned and line.rounds == 1 else ""), *cells)
    return table


def _cell(panel: Panel, optimizer: str, k: int, variance: str | None, tuned: bool, show_errors: bool) -> str:
    lines = by_optimizer(panel.tuned if tuned else panel.untuned, variance)
    estimate = lines.get(optimizer, {}).get(k)
    if estimate is None:
        return NOTHING
    if panel.metric != "bits_per_dim":
        return number(estimate.mean, fid_decimals([panel]))
    return with_error(estimate.mean, estimate.standard_error if show_errors else None, BITS_DECIMALS)


def _note(panel: Panel, show_errors: bool) -> str:
    """What a panel's columns are, and what stands beside them: the full grid or the floor."""
    if panel.metric == "bits_per_dim":
        full = (
            f"; all {panel.reference_steps or 'grid'} steps: {_estimate(panel.reference)}"
            if panel.reference
            else ""
        )
        estimates = [estimate for by_k in panel.untuned.values() for estimate in by_k.values()]
        errors = [e.standard_error for e in estimates if e.standard_error is not None]
        hidden = (
            f", standard errors up to {number(max(errors), BITS_DECIMALS)}" if errors and not show_errors else ""
        )
        return f"bits/dim: {panel.variance or 'unstated'} variance, {count(panel.n_images)} images{hidden}{full}"
    sampling = distinct(str(seed) for _, seed in panel.seeds if seed is not None)
    seeds = f", mean of sampling seeds {', '.join(sampling)}" if sampling else ""
    floor = ""
    if panel.reference:
        mean = number(panel.reference.mean, fid_decimals([panel]))
        floor = f"; {count(sorted(panel.reference.n_images))} real images: {mean}"
    return f"{panel.metric}: {panel.solver or 'unstated'} solver, {count(panel.n_images)} samples{seeds}{floor}"


def _estimate(estimate: Estimate) -> str:
    return with_error(estimate.mean, estimate.standard_error, BITS_DECIMALS)


def rendered(table: Table) -> str:
    """The table as plain text, at most `WIDTH` columns wide."""
    text = io.StringIO()
    Console(file=text, width=WIDTH, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
