"""Every quantity before and after fine-tuning, as a table."""

import math
from collections.abc import Sequence

from fewstep.report.estimates import Change, Estimate, Panel
from fewstep.report.overfitting import TunedRows
from fewstep.report.printing import BITS_DECIMALS, NOTHING, fid_decimals, number, signed
from fewstep.report.rows import changes
from fewstep.report.tables import Cell, Table, fid_cell
from fewstep.results import Result

VALIDATION = {
    "validation_error_on_schedule": "denoising error at the schedule’s timesteps",
    "validation_error_off_schedule": "denoising error midway between them",
}
PAIRED = {"bits_per_dim": "bits_per_dim_change"} | {name: name.replace("error", "change") for name in VALIDATION}


def paired_change(panel: Panel, change: Change, rows: Sequence[Result]) -> Estimate | None:
    """A change as it was measured image by image; None where it was not."""
    if panel.metric not in PAIRED:
        return None
    tuned = TunedRows(rows, change.line.optimizer, change.steps)
    return tuned.of(PAIRED[panel.metric], panel.variance, panel.decoder)


def finetuning_table(panels: Sequence[Panel], rows: Sequence[Result]) -> Table | None:
    """Every quantity measured before and after fine-tuning; `None` where no row is fine-tuned."""
    cells = [
        [
            Cell(_quantity(panel)),
            Cell(f"{change.line.label}, K = {change.steps}"),
            *_before_after(panel, change, paired_change(panel, change, rows)),
        ]
        for panel in panels
        for change in changes(panel)
    ]
    if not cells:
        return None
    caption = (
        "The model before and after fine-tuning on the schedule’s own timesteps. Likelihoods and errors ± "
        "standard error, that of the difference paired over images, or, where it was not measured so, as if the "
        "two were independent (*); distances are means over seeds, small: each seed’s difference. Lower is better "
        "throughout."
    )
    return Table(caption, ["quantity", "schedule", "before", "after", "after − before"], cells, headings=2)


def _quantity(panel: Panel) -> str:
    name = {"bits_per_dim": "bits/dim", **VALIDATION}.get(panel.metric, panel.metric)
    kinds = [panel.solver, f"{panel.variance} variance" if panel.variance else None, panel.split]
    if panel.metric.startswith("fid_"):
        kinds[2] = None
    return ", ".join([name, *(kind for kind in kinds if kind)])


def _before_after(panel: Panel, change: Change, paired: Estimate | None) -> list[Cell]:
    if panel.metric.startswith("fid_"):
        decimals = fid_decimals([panel])
        before = fid_cell(change.before, decimals) if change.before else Cell(NOTHING)
        return [before, fid_cell(change.after, decimals), _distance_change(change, decimals)]
    decimals = _decimals_for(change.after.mean) if panel.metric in VALIDATION else BITS_DECIMALS
    before = _plain(change.before, decimals) if change.before else Cell(NOTHING)
    return [before, _plain(change.after, decimals), _error_change(change, paired, decimals)]


def _error_change(change: Change, paired: Estimate | None, decimals: int) -> Cell:
    """The difference of two means over images."""
    if not change.differences:
        return Cell(NOTHING)
    value = signed(change.mean_difference, decimals)
    error = change.combined_error if paired is None else paired.standard_error
    if error is None:
        return Cell(value)
    return Cell(value, number(error, decimals) + ("*" if paired is None else ""))


def _distance_change(change: Change, decimals: int) -> Cell:
    """The difference of two Fréchet distances, and that of every seed, or their range."""
    differences = list(change.differences.values())
    if not differences:
        return Cell(NOTHING)
    detail = ""
    if len(differences) == 2:
        detail = " · ".join(signed(value, decimals) for value in differences)
    elif len(differences) > 2:
        detail = f"{signed(min(differences), decimals)} to {signed(max(differences), decimals)}"
    return Cell(signed(change.mean_difference, decimals), detail=detail)


def _plain(estimate: Estimate, decimals: int) -> Cell:
    error = estimate.standard_error
    return Cell(number(estimate.mean, decimals), "" if error is None else number(error, decimals))


def _decimals_for(value: float) -> int:
    """Decimals that show four significant digits of a small number."""
    return max(0, 3 - math.floor(math.log10(abs(value)))) if value else BITS_DECIMALS
