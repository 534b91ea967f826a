"""Which rows of the tidy results each table, plot and sentence is a view of."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from fewstep.discovery import named
from fewstep.errors import UserError
from fewstep.report.estimates import Change, Estimate, Estimates, Line, Panel, Seeds
from fewstep.results import Result

KNOWN_ORDER = ("even", "quadratic", "log_snr", "karras", "tangent")
FIXED_RULES = frozenset(name for name, search in named("search").items() if not search.needs_objective)
VARIANCES = ("optimal", "posterior", "beta", "learned")
SOLVERS = ("ddim", "heun", "dpmpp_2m", "ancestral")
FULL_GRID = "full"
REAL_DATA = "data"
TUNED = " (tuned)"


def every_row(results: pd.DataFrame) -> list[Result]:
    """The rows of `read_results` as `Result`s, in the file's order; of NaN where one has no value.

    Rows that are the same in every column are one measurement.
    """
    records = results.astype(object).where(results.notna(), None).to_dict("records")
    return list(
        dict.fromkeys(
            Result(**{str(key): value for key, value in record.items()} | {"value": _value(record["value"])})
            for record in records
        )
    )


def _value(cell: float | None) -> float:
    return math.nan if cell is None else cell  # the one NaN that equals itself in a key


def read_rows(results: pd.DataFrame) -> list[Result]:
    """The rows of `read_results` that have a value as `Result`s, in the file's order.

    Rows that are the same in every column are one measurement.

    Raises:
        UserError: there is no row with a value, or the rows are of several datasets or processes.
    """
    rows = [row for row in every_row(results) if not math.isnan(row.value)]
    if not rows:
        raise UserError("The results hold no value; a report needs at least one measured number.")
    for column in ("dataset", "process"):
        found = distinct(getattr(row, column) for row in rows)
        if len(found) > 1:
            raise UserError(
                f"The results are of the {column} values {', '.join(found)}; a report is of one {column}."
            )
    return rows


def distinct(names: Iterable[str | None], known: Sequence[str] = ()) -> list[str]:
    """The names given, each once: first those that are `known`, in that order, then the rest as they come."""
    found = [name for name in dict.fromkeys(names) if name is not None]
    return [name for name in known if name in found] + [name for name in found if name not in known]


def optimizers(rows: Sequence[Result]) -> list[str]:
    """Every schedule optimizer of the results: fixed rules first, then searched ones as they come."""
    names = (row.schedule_optimizer for row in rows if row.schedule_optimizer not in (FULL_GRID, REAL_DATA))
    return distinct(names, KNOWN_ORDER)


def fid_metrics(rows: Sequence[Result]) -> list[str]:
    """Every Fréchet distance of the results, such as `fid_digits`."""
    return distinct(row.metric for row in rows if row.metric.startswith("fid_"))


def likelihood_panels(rows: Sequence[Result]) -> list[Panel]:
    """Bits/dim on held-out images, one panel per variance kind and decoder convention."""
    rows = [row for row in rows if row.metric == "bits_per_dim" and row.split != "train"]
    order = optimizers(rows)
    panels = []
    for variance in _kinds(rows, "variance", VARIANCES):
        of_variance = [row for row in rows if row.variance == variance]
        for decoder in _kinds(of_variance, "decoder"):
            chosen = [row for row in of_variance if row.decoder == decoder]
            panel = Panel("bits_per_dim", variance=variance, decoder=decoder, split=chosen[0].split)
            panels.append(_fill(panel, chosen, order, FULL_GRID, tell_variances=False))
    return panels


def fid_panels(rows: Sequence[Result], metric: str) -> list[Panel]:
    """One Fréchet distance: a panel per solver, and per variance where every row of the solver states one."""
    rows = [row for row in rows if row.metric == metric]
    floor = [row for row in rows if row.schedule_optimizer == REAL_DATA]
    sampled = [row for row in rows if row.schedule_optimizer != REAL_DATA]
    order = optimizers(sampled)
    panels = []
    for solver in _kinds(sampled, "solver", SOLVERS):
        of_solver = [row for row in sampled if row.solver == solver]
        stated = all(row.variance is not None for row in of_solver)
        for variance in _kinds(of_solver, "variance", VARIANCES) if stated else [None]:
            chosen = [row for row in of_solver if variance in (None, row.variance)]
            panel = Panel(metric, solver=solver, variance=variance, split=chosen[0].split)
            panels.append(_fill(panel, [*chosen, *floor], order, REAL_DATA, tell_variances=not stated))
    return panels


def validation_panels(rows: Sequence[Result]) -> list[Panel]:
    """The denoising error on the validation split, at the schedule's timesteps and away from them."""
    panels = []
    for metric in distinct(row.metric for row in rows if row.metric.startswith("validation_error_")):
        chosen = [row for row in rows if row.metric == metric]
        panel = Panel(metric, split=chosen[0].split)
        panels.append(_fill(panel, chosen, optimizers(rows), FULL_GRID, tell_variances=True))
    return panels


def node_log_snrs(rows: Sequence[Result]) -> dict[int, dict[Line, dict[Seeds, list[float]]]]:
    """log-SNR (nats) of the nodes t_1 … t_K: K → line → seeds → ascending values."""
    nodes: dict[int, dict[Line, dict[Seeds, list[float]]]] = {}
    chosen = [row for row in rows if row.metric == "node_log_snr"]
    order = optimizers(chosen)
    for row in sorted(chosen, key=lambda row: _rank(row, order)):
        if row.steps is not None and row.schedule_optimizer is not None:
            line = Line(row.schedule_optimizer, row.variance)
            of_line = nodes.setdefault(row.steps, {}).setdefault(line, {})
            of_line.setdefault((row.train_seed, row.sample_seed), []).append(row.value)
    return {k: _sorted_nodes(nodes[k]) for k in sorted(nodes)}


def _sorted_nodes(lines: dict[Line, dict[Seeds, list[float]]]) -> dict[Line, dict[Seeds, list[float]]]:
    return {line: {seeds: sorted(v) for seeds, v in by_seeds.items()} for line, by_seeds in lines.items()}


def preferred(panels: Sequence[Panel]) -> Panel | None:
    """The panel under `optimal` variance, or else the first; `None` of none."""
    return next((panel for panel in panels if panel.variance == "optimal"), panels[0] if panels else None)


def by_optimizer(lines: Estimates, variance: str | None) -> dict[str, dict[int, Estimate]]:
    """One line per schedule optimizer; of several that differ in variance the one of `variance`, or the first."""
    chosen: dict[str, dict[int, Estimate]] = {}
    for line, by_k in lines.items():
        if line.optimizer not in chosen or line.variance == variance:
            chosen[line.optimizer] = by_k
    return chosen


def changes(panel: Panel) -> list[Change]:
    """What fine-tuning changed in a panel: every tuned schedule beside its untuned self."""
    return [
        Change(line, k, panel.untuned.get(line.untuned, {}).get(k), after)
        for line, by_k in panel.tuned.items()
        for k, after in by_k.items()
    ]


def by_name(rows: Sequence[Result]) -> dict[str, dict[int, Estimate]]:
    """Rows of one metric by their optimizers' names, those of tuned models last and with `(tuned)`, and by K."""
    found: dict[str, dict[int, Estimate]] = {}
    order = optimizers(rows)
    for row in sorted(rows, key=lambda row: (bool(row.finetuned), _rank(row, order))):
        if row.steps is not None:
            name = f"{row.schedule_optimizer}{TUNED if row.finetuned else ''}"
            found.setdefault(name, {}).setdefault(row.steps, Estimate()).add(row)
    return found


def of_metric(rows: Sequence[Result], metric: str) -> Estimate | None:
    """A metric of the model before fine-tuning in which no schedule has a part, over its seeds."""
    estimate = Estimate()
    for row in rows:
        if row.metric == metric and not row.finetuned:
            estimate.add(row)
    return estimate if estimate.values else None


def _kinds(rows: Sequence[Result], column: str, known: Sequence[str] = ()) -> list[str | None]:
    """The column's values, known ones first; an empty cell is a kind of its own and comes last."""
    values = [getattr(row, column) for row in rows]
    return [*distinct(values, known), *([None] if None in values else [])]


def _fill(
    panel: Panel, rows: Sequence[Result], order: Sequence[str], reference: str, *, tell_variances: bool
) -> Panel:
    for row in sorted(rows, key=lambda row: _rank(row, order)):
        if row.schedule_optimizer == reference and not row.finetuned:
            panel.reference = panel.reference or Estimate()
            panel.reference.add(row)
            panel.reference_steps = row.steps
        elif row.schedule_optimizer not in (None, reference) and row.steps is not None:
            line = Line(row.schedule_optimizer, row.variance if tell_variances else None)
            lines = panel.tuned if row.finetuned else panel.untuned
            lines.setdefault(line, {}).setdefault(row.steps, Estimate()).add(row)
            if row.nfe is not None:
                panel.nfe[row.steps] = max(row.nfe, panel.nfe.get(row.steps, 0))
    return panel


def _rank(row: Result, order: Sequence[str]) -> int:
    return order.index(row.schedule_optimizer) if row.schedule_optimizer in order else len(order)
