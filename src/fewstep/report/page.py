"""The report page: one self-contained HTML file made from `results.csv` and sample pictures."""

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.report.estimates import Panel, finite
from fewstep.report.failure_signatures import failure_signatures
from fewstep.report.findings import Finding, findings
from fewstep.report.fine_steps import fine_step_tables
from fewstep.report.finetuning_table import finetuning_table
from fewstep.report.made_for import made_for_table
from fewstep.report.methods import methods
from fewstep.report.plots import fid_plot, likelihood_plot, nodes_plot
from fewstep.report.printing import fid_decimals
from fewstep.report.rounds import rounds_plot, rounds_table
from fewstep.report.rows import (
    distinct,
    fid_metrics,
    fid_panels,
    likelihood_panels,
    node_log_snrs,
    of_metric,
    optimizers,
    read_rows,
    validation_panels,
)
from fewstep.report.sample_metrics import sample_metric_tables, sample_metrics
from fewstep.report.style import Style, png, styles
from fewstep.report.tables import Table, cost_table, fid_table, likelihood_table
from fewstep.report.terminal import rendered, terminal_table
from fewstep.results import Result, read_results

PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


class Picture(NamedTuple):
    """An image inside the page."""

    caption: str
    source: str


class Section(NamedTuple):
    """A heading with what belongs under it: sentences, tables, pictures, samples."""

    heading: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    samples: Sequence[Picture] = ()
    sentences: Sequence[str] = ()


def write_report(folder: Path, title: str, sample_pictures: Mapping[str, Path]) -> str:
    """Write plots (PNG) and `report.html` into `folder`, which holds `results.csv`; return the terminal table.

    `sample_pictures` maps captions to picture files, which are copied into the page. Everything else comes from
    the results alone. Sections without rows are left out.

    Raises:
        UserError: the results are missing, empty or of several datasets or processes; a picture is missing
            or of a kind that the page cannot hold.
    """
    folder = Path(folder)
    results = read_results(folder / "results.csv")
    rows = read_rows(results)
    samples = [Picture(caption, _data_uri(path)) for caption, path in sample_pictures.items()]
    page = rendered_page(title, subtitle(rows), findings(rows), sections(rows, folder, samples), methods(rows))
    write_atomically(folder / "report.html", page)
    return rendered(terminal_table(results))


def rendered_page(
    title: str,
    under: str,
    found: Sequence[Finding],
    told: Sequence[Section],
    notes: Sequence[tuple[str, str]],
) -> str:
    """The page as HTML: the line under its title, what was found, its sections and the notes on methods."""
    return _template().render(title=title, subtitle=under, findings=found, sections=told, methods=notes)


def subtitle(rows: Sequence[Result]) -> str:
    """The line under the title: dataset, process, training seeds, number of rows."""
    parts = []
    for word, values in (
        ("dataset", distinct(row.dataset for row in rows)),
        ("process", distinct(row.process for row in rows)),
        ("training seed", distinct(None if r.train_seed is None else str(r.train_seed) for r in rows)),
    ):
        if values:
            parts.append(f"{word}{'s' if len(values) > 1 else ''} {', '.join(values)}")
    return " · ".join([*parts, f"{len(rows):,} measured numbers in results.csv"])


def sections(rows: Sequence[Result], folder: Path, samples: Sequence[Picture]) -> list[Section]:
    """The page's sections, plots written to `folder` on the way; those without anything are left out."""
    bits = [panel for panel in likelihood_panels(rows) if panel.untuned or panel.reference]
    distances = {metric: fid_panels(rows, metric) for metric in fid_metrics(rows)}
    fid_tables = {metric: _fid_tables(rows, panels, len(distances)) for metric, panels in distances.items()}
    every_distance = [panel for panels in distances.values() for panel in panels]
    finetuning = finetuning_table([*validation_panels(rows), *bits, *every_distance], rows)
    cost = cost_table(rows)
    nodes = node_log_snrs(rows)
    style = styles(optimizers(rows))
    plots = _plots(folder, bits, distances, style)
    places = []
    if nodes:
        caption = "Nodes t_1 to t_K of each schedule. Sampling runs from left (t_K = T, noise) to right (data)."
        places.append(_saved(nodes_plot(nodes, style), folder / "nodes.png", caption))
    found = [
        Section("Bits/dim on few steps", [likelihood_table(panel) for panel in bits]),
        *(Section(f"Sample quality: {metric}", tables) for metric, tables in fid_tables.items()),
        *(Section(f"Sample quality: {name}", sample_metric_tables(rows, name)) for name in sample_metrics(rows)),
        Section("Distance to the same noise’s fine-step output", fine_step_tables(rows)),
        Section("Before and after fine-tuning", [finetuning] if finetuning else []),
        _rounds(rows, folder, style),
        Section("Against the number of steps, in pictures", pictures=plots),
        Section("Where each schedule puts its steps", pictures=places),
        Section("Samples", samples=samples),
        Section("Signs of failure", sentences=failure_signatures(rows)),
        Section("Cost", [cost] if cost else []),
    ]
    return [section for section in found if any(section[1:])]


def _fid_tables(rows: Sequence[Result], panels: Sequence[Panel], metrics: int) -> list[Table]:
    """A table per solver, and one of schedules on other solvers than their own.

    What is known of the judge is in the captions where there is but one.
    """
    accuracy, reference = (
        of_metric(rows, name) if metrics == 1 else None for name in ("feature_accuracy", "reference_images")
    )
    tables = [fid_table(panel, accuracy, fid_decimals(panels), reference) for panel in panels if panel.untuned]
    swapped = made_for_table(rows, panels[0].metric) if panels else None
    return tables if swapped is None else [*tables, swapped]


def _plots(
    folder: Path, bits: Sequence[Panel], distances: Mapping[str, Sequence[Panel]], style: dict[str, Style]
) -> list[Picture]:
    pictures = []
    drawn = [panel for panel in map(finite, bits) if panel.steps]
    if drawn:
        caption = "Bits/dim against the number of steps, bars ± one standard error; lower is better."
        pictures.append(_saved(likelihood_plot(drawn, style), folder / "bits_per_dim.png", caption))
    for metric, panels in distances.items():
        drawn = [panel for panel in map(finite, panels) if panel.steps]
        if drawn:
            caption = (
                f"{metric} against the number of steps: mean over seeds, a dash for each seed; lower is better."
            )
            pictures.append(_saved(fid_plot(drawn, style), folder / f"{metric}.png", caption))
    return pictures


def _rounds(rows: Sequence[Result], folder: Path, style: dict[str, Style]) -> Section:
    """The loss over the rounds of search and fine-tuning."""
    table = rounds_table(rows)
    if table is None:
        return Section("Search and fine-tuning in turn")
    caption = "The loss that search and fine-tuning lower in turn, after each of them, bars ± one standard error."
    return Section(
        "Search and fine-tuning in turn",
        tables=[table],
        pictures=[_saved(rounds_plot(rows, style), folder / "rounds.png", caption)],
    )


def _saved(figure: Figure, path: Path, caption: str) -> Picture:
    content = png(figure)
    write_atomically(path, content)
    return Picture(caption, f"data:image/png;base64,{base64.b64encode(content).decode()}")


def _data_uri(path: Path) -> str:
    path = Path(path)
    kind = PICTURE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"The picture {path} cannot stand in the page; allowed are {', '.join(PICTURE_TYPES)}.")
    if not path.is_file():
        raise UserError(f"There is no picture at {path}.")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _template() -> jinja2.Template:
    text = resources.files("fewstep.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    return environment.from_string(text)


def unbroken(text: str) -> str:
    """The text with no line break inside `K = 8`, `2.0 ± 0.1` or `3 %`."""
    return text.replace(" = ", "\u00a0=\u00a0").replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")
