"""A table of all runs in `outputs`, in place of the report of one: a view of what lies there, made anew each time.

No run is made for it, and none is needed: what was not run is marked as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.discovery import named
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.report.comma_separated import csv_tables
from fewstep.report.latex import latex_tables
from fewstep.report.markdown import markdown_page
from fewstep.report.overviews.base import Measured, Overview
from fewstep.report.runs import measured_runs
from fewstep.report.style import png
from fewstep.schema import unknown

OVERVIEWS = "report.overviews"


@dataclass(frozen=True)
class Reporting:
    """What `stage=report` ends with.

    Attributes:
        table: the name of a table of all runs in `outputs`, which are then read and not made; None for the
            report of the run itself.
        experiments: the experiments whose runs the table is of; None for all that there are.
    """

    table: str | None = None
    experiments: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.table is not None:
            find_overview(self.table)
        elif self.experiments is not None:
            raise UserError(
                f"report.experiments is {list(self.experiments)}, but without report.table nothing reads it; "
                f"allowed tables are {', '.join(sorted(named(OVERVIEWS)))}."
            )


def find_overview(name: str) -> Overview:
    """The table of all runs that has a name.

    Raises:
        UserError: there is none; the sentence lists what there is.
    """
    overviews = named(OVERVIEWS)
    if name not in overviews:
        raise unknown("table", name, sorted(overviews))
    overview: Overview = overviews[name]()
    return overview


def write_overview(outputs: Path, settings: Reporting, schedule_optimizers: Sequence[str]) -> str:
    """Write a table of all runs as Markdown, CSV and LaTeX, with its plots; returns it for the terminal.

    Args:
        outputs: holds a folder per experiment; the files go to `report/<table>` in it.
        settings: which table, and of which experiments.
        schedule_optimizers: the names of all that there are.

    Raises:
        UserError: a run is damaged, an experiment is not there, or the folder cannot be written.
    """
    assert settings.table is not None
    runs = measured_runs(outputs, settings.experiments)
    content = find_overview(settings.table)(Measured(runs, schedule_optimizers))
    folder = outputs / "report" / "-".join([settings.table, *(settings.experiments or ())])
    page = markdown_page(content)
    files: dict[str, str | bytes] = {
        f"{settings.table}.md": page,
        f"{settings.table}.csv": csv_tables(content),
        f"{settings.table}.tex": latex_tables(content),
    }
    files |= {f"{plot.name}.png": png(plot.figure) for heading in content.headings for plot in heading.plots}
    try:
        for name, written in files.items():
            write_atomically(folder / name, written)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot hold a table ({error.strerror or error}).") from error
    return f"{page}\nThe table: {folder / settings.table}.md, .csv, .tex"
