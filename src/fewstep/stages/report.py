"""Stage report: gather rows, schedules and samples of finished runs into one folder that a person reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor

from fewstep.files import write_atomically
from fewstep.ranks import of_first
from fewstep.report.page import write_report
from fewstep.report.rows import read_rows
from fewstep.results import Result, read_results, write_results
from fewstep.run import Run, check_output


@dataclass(frozen=True)
class Sources:
    """The finished runs that a report is made of.

    Attributes:
        results: their results files.
        costs: rows of seconds and network calls.
        schedules: schedule files.
        samples: title of a picture → label of a row → samples file; every row shows the same noise.
    """

    results: Sequence[Path]
    costs: Sequence[Result]
    schedules: Sequence[Path]
    samples: Mapping[str, Mapping[str, Path]]


def report(folder: Path, config: Mapping[str, Any], sources: Sources, title: str) -> str:
    """Write `results.csv`, `report.html`, its plots and `schedules/`; return the table for the terminal."""
    inputs = {f"results {number}": path for number, path in enumerate(sources.results)}
    with Run(folder, config, inputs) as run:
        if not run.complete:
            of_first(lambda: _write(folder, sources, title))
            run.finish(network_calls=0, device="cpu", seed=None)
    return (folder / "terminal.txt").read_text(encoding="utf-8")


def _write(folder: Path, sources: Sources, title: str) -> None:
    samples = [path for rows in sources.samples.values() for path in rows.values()]
    for path in (*sources.schedules, *samples):
        check_output(path)
    for path in sources.schedules:
        write_atomically(folder / "schedules" / path.name, path.read_bytes())
    measured = [row for path in sources.results for row in read_rows(read_results(path))]
    write_results(folder / "results.csv", [*measured, *sources.costs])
    pictures = {}
    for number, (caption, rows) in enumerate(sources.samples.items(), start=1):
        path = folder / f"samples_{number}.png"
        draw_samples(path, rows)
        pictures[caption] = path
    write_atomically(folder / "terminal.txt", write_report(folder, title, pictures))


def draw_samples(path: Path, rows: Mapping[str, Path]) -> None:
    """A picture with a labelled row of samples per schedule, column by column from the same noise."""
    images = {label: load_file(file)["images"] for label, file in rows.items()}
    columns = max(len(row) for row in images.values())
    figure = Figure(figsize=(1.4 + 0.62 * columns, 0.66 * len(images)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(images), columns, squeeze=False)
    for (label, row), line in zip(images.items(), axes, strict=True):
        for column, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if column < len(row):
                axis.imshow(_pixels(row[column]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def _pixels(image: Tensor):  # type: ignore[no-untyped-def]
    """[C, H, W] in [-1, 1] → [H, W] or [H, W, 3] in [0, 1]."""
    return ((image + 1) / 2).permute(1, 2, 0).squeeze(-1).numpy()
