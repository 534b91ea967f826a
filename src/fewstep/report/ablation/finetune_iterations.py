"""Iterations of restricted fine-tuning: from when on it helps, from when on it over-fits."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fewstep.report.ablation.plot import Axis, Curve, Drawing, Point, ablation_plot
from fewstep.report.ablation.settings import Setting, optimizers_of, plain
from fewstep.report.ablation.tables import against
from fewstep.report.content import Content, Heading, Plot
from fewstep.report.differences import seeds_error
from fewstep.report.estimates import Estimate, Line
from fewstep.report.overfitting import TunedRows
from fewstep.report.part import Part
from fewstep.report.printing import BITS_DECIMALS, NOTHING, fid_decimals, listing, number, signed
from fewstep.report.style import Style, styles
from fewstep.report.tables import Cell, Table

Key = tuple[str, int]
ERROR, LAST = "validation_error_on_schedule", "last_validation_error_on_schedule"
BETWEEN = "validation_error_off_schedule"
CHANGE, AFTER_BEST = "validation_change_on_schedule", "validation_change_after_best_on_schedule"
ERROR_DECIMALS = 4
ABOUT = (
    "Every row is a training of its own: the untuned network, tuned on one schedule’s timesteps alone for the "
    "number of iterations given, with a learning rate that falls to its end. All iterations are run; the model "
    "that is kept and judged is that of the best validation, the untuned one where none was better, as in every "
    "run of the program. The error after all iterations stands beside it: where it lies above the kept one’s, the "
    "model has over-fitted. Test images and samples judge the kept model alone. 0 is the untuned network."
)


class Curves(NamedTuple):
    """What is drawn of one schedule: the kept model's values and, for the error, those of the last iteration."""

    kept: list[Point]
    last: list[Point]


def finetune_iterations(settings: Sequence[Setting]) -> Content:
    """The page of `ablation_finetune_iterations`."""
    keys = tuned_keys(settings)
    style = styles(optimizers_of(settings))
    ticks = {0.0: "0"} | {setting.position: plain(setting.value) for setting in settings}
    axis = Axis("iterations of fine-tuning (log scale from the first)", ticks, "symlog")
    measured = zip(_names(settings[0].part), (_errors, _bits, _distances), strict=True)
    drawings = [one for name, of in measured for one in _drawings(name, of, settings, keys, style)]
    headings = []
    if drawings:
        caption = (
            "Validation error, bits/dim and distance against the iterations; filled marks: the model kept, hollow "
            "marks: the model after all iterations. Bars ± one standard error, of errors and bits/dim over "
            "images, of distances over paired seeds. Lower is better."
        )
        plot = Plot("results", caption, ablation_plot(drawings, axis, columns=len({K for _, K in keys})))
        headings.append(Heading("In pictures", (), [plot]))
    headings.append(Heading("In numbers", (), (), [_table(settings, key) for key in keys]))
    findings = [_finding(settings, key) for key in keys]
    return Content("Ablation: iterations of restricted fine-tuning", ABOUT, findings, headings)


def tuned_keys(settings: Sequence[Setting]) -> list[Key]:
    """(schedule optimizer, K) of every tuned model."""
    found = {
        (row.schedule_optimizer, row.steps): None
        for setting in settings
        for row in setting.part.rows
        if row.metric == ERROR and row.finetuned
    }
    return [(name, K) for name, K in found if name is not None and K is not None]


def untuned(part: Part, metric: str, key: Key) -> Estimate | None:
    """A metric of the model before it was tuned to a schedule."""
    estimate = Estimate()
    for row in part.rows:
        if (row.metric, row.schedule_optimizer, row.steps, bool(row.finetuned)) == (metric, *key, False):
            estimate.add(row)
    return estimate if estimate.values else None


def bits(part: Part, key: Key, *, tuned: bool) -> Estimate | None:
    """Bits/dim under the preferred variance kind."""
    likelihood = part.preferred
    lines = {} if likelihood is None else likelihood.panel.tuned if tuned else likelihood.panel.untuned
    return lines.get(Line(key[0]), {}).get(key[1])


def distance(part: Part, key: Key, *, tuned: bool) -> Estimate | None:
    """The first Fréchet distance."""
    for one in part.distances:
        for line, by_K in (one.panel.tuned if tuned else one.panel.untuned).items():
            if line.optimizer == key[0] and key[1] in by_K:
                return by_K[key[1]]
    return None


def _errors(settings: Sequence[Setting], key: Key) -> Curves:
    kept, last = [], []
    first = untuned(settings[0].part, ERROR, key)
    if first is not None:
        kept.append(Point(0.0, first.mean, first.standard_error))
        last.append(kept[0])
    for setting in settings:
        rows = TunedRows(setting.part.rows, *key)
        for points, metric in ((kept, ERROR), (last, LAST)):
            estimate = rows.of(metric)
            if estimate is not None:
                points.append(Point(setting.position, estimate.mean, estimate.standard_error))
    return Curves(kept, last)


def _bits(settings: Sequence[Setting], key: Key) -> Curves:
    first = bits(settings[0].part, key, tuned=False)
    found = [(0.0, first), *((s.position, bits(s.part, key, tuned=True)) for s in settings)]
    return Curves([Point(at, e.mean, e.standard_error) for at, e in found if e is not None], [])


def _distances(settings: Sequence[Setting], key: Key) -> Curves:
    first = distance(settings[0].part, key, tuned=False)
    found = [(0.0, first), *((s.position, distance(s.part, key, tuned=True)) for s in settings)]
    return Curves([Point(at, e.mean, seeds_error(e)) for at, e in found if e is not None], [])


def _names(part: Part) -> tuple[str, str, str]:
    """The quantities with their units."""
    variance = part.preferred.variance if part.preferred else "unstated"
    distance = f"{part.distances[0].panel.metric}, {part.distances[0].solver}" if part.distances else "distance"
    return "validation error, MSE per dimension", f"test bits/dim, {variance} variance", distance


def _drawings(
    name: str,
    measured: Callable[[Sequence[Setting], Key], Curves],
    settings: Sequence[Setting],
    keys: Sequence[Key],
    style: dict[str, Style],
) -> list[Drawing]:
    """A panel for every K; none where nothing of a quantity was measured."""
    drawings = []
    for K in sorted({K for _, K in keys}):
        curves = []
        for key in keys:
            if key[1] == K:
                found = measured(settings, key)
                if found.last:
                    label = f"{key[0]}, after all iterations"
                    curves.append(Curve(label, found.last, style[key[0]], hollow=True))
                curves.append(Curve(f"{key[0]}, kept", found.kept, style[key[0]]))
        drawings.append(Drawing(f"K = {K}", name, curves))
    return drawings if any(curve.points for drawing in drawings for curve in drawing.curves) else []


def _table(settings: Sequence[Setting], key: Key) -> Table:
    """Rows of one schedule: untuned first, then every number of iterations."""
    part = settings[0].part
    panel = part.distances[0].panel if part.distances else None
    decimals = 2 if panel is None else fid_decimals([panel])
    before = [bits(part, key, tuned=False), distance(part, key, tuned=False)]
    first = untuned(part, ERROR, key)
    rows = [
        [
            Cell("0"),
            Cell("0"),
            _cell(first, ERROR_DECIMALS),
            Cell(NOTHING),
            _cell(untuned(part, BETWEEN, key), ERROR_DECIMALS),
            _cell(before[0], BITS_DECIMALS),
            _distance_cell(before[1], None, decimals),
        ]
    ]
    for setting in settings:
        tuned = TunedRows(setting.part.rows, *key)
        best = tuned.of("best_iteration")
        rows.append(
            [
                Cell(plain(setting.value)),
                Cell(NOTHING if best is None else number(best.mean, 0)),
                _cell(tuned.of(ERROR), ERROR_DECIMALS, tuned.of(CHANGE)),
                _cell(tuned.of(LAST), ERROR_DECIMALS),
                _cell(tuned.of(BETWEEN), ERROR_DECIMALS),
                _bits_cell(setting.part, key, tuned),
                _distance_cell(distance(setting.part, key, tuned=True), before[1], decimals),
            ]
        )
    name = panel.metric if panel else "distance"
    caption = (
        f"{key[0]}, K = {key[1]}: ± standard error; in brackets the change from the untuned network, paired over "
        "images (± standard error) or over sampling seeds (± half a 95 % interval). The errors are denoising "
        "errors on validation images, with the training loss’s weights."
    )
    header = [
        "iterations",
        "kept iteration",
        "validation error, kept",
        "after all iterations",
        "midway between the timesteps, kept",
        f"test bits/dim, {part.preferred.variance if part.preferred else 'unstated'} variance",
        name,
    ]
    return Table(caption, header, rows)


def _cell(estimate: Estimate | None, decimals: int, change: Estimate | None = None) -> Cell:
    if estimate is None:
        return Cell(NOTHING)
    error = estimate.standard_error
    detail = ""
    if change is not None:
        paired = change.standard_error
        detail = signed(change.mean, decimals) + ("" if paired is None else f" ± {number(paired, decimals)}")
    return Cell(number(estimate.mean, decimals), "" if error is None else number(error, decimals), detail)


def _bits_cell(part: Part, key: Key, tuned: TunedRows) -> Cell:
    likelihood = part.preferred
    if likelihood is None:
        return Cell(NOTHING)
    change = tuned.of("bits_per_dim_change", likelihood.panel.variance, likelihood.panel.decoder)
    return _cell(bits(part, key, tuned=True), BITS_DECIMALS, change)


def _distance_cell(estimate: Estimate | None, before: Estimate | None, decimals: int) -> Cell:
    if estimate is None:
        return Cell(NOTHING)
    error = seeds_error(estimate)
    detail = "" if before is None else against(estimate, before, decimals)
    return Cell(number(estimate.mean, decimals), "" if error is None else number(error, decimals), detail)


def _finding(settings: Sequence[Setting], key: Key) -> str:
    """The number of iterations with the lowest kept error, and from where on the last iteration over-fits."""
    errors = _errors(settings, key).kept
    lowest = min(errors, key=lambda point: point.value)
    share = 100 * (lowest.value / errors[0].value - 1)
    parts = [f"the kept validation error is lowest with {lowest.position:g} iterations, {signed(share, 1)} %"]
    over = []
    for setting in settings:
        change = TunedRows(setting.part.rows, *key).of(AFTER_BEST)
        if change is not None and change.standard_error is not None and change.mean > 2 * change.standard_error:
            over.append(plain(setting.value))
    parts.append(
        f"after the last iteration it is above the kept one’s by more than twice its error with {listing(over)}"
        if over
        else "after the last iteration it is nowhere above the kept one’s by more than twice its error"
    )
    found = _distances(settings, key).kept
    if len(found) > 1:
        best = min(found, key=lambda point: point.value)
        parts.append(f"the mean distance is lowest with {best.position:g} ({number(best.value, 2)})")
    return f"{key[0]}, K = {key[1]}: {'; '.join(parts)}."
