"""The page in Markdown, made from the parts' `results.csv` alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fewstep.files import write_atomically
from fewstep.report.ddim.header import INDEPENDENCE, health, measured
from fewstep.report.ddim.networks import BASELINES, Networks, read_networks
from fewstep.report.ddim.quality import difference_table, mean_table
from fewstep.report.deterministic.cost import cost_table
from fewstep.report.deterministic.gains import YARDSTICK, share_table
from fewstep.report.deterministic.verdict import verdict_section
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.rows import SOLVERS, distinct

COMPARED = (*BASELINES, "local_error_dp")


def write_deterministic(page: Path, reports: Mapping[str, Path]) -> None:
    """Write the page.

    Args:
        page: the Markdown file.
        reports: part → the folder of its report, which holds `results.csv`; any subset of the sweep's parts.

    Raises:
        UserError: a part's results are missing, damaged, empty, or of several datasets or processes.
    """
    write_atomically(Path(page), "\n\n".join(blocks(read_networks(reports), list(reports))) + "\n")


def blocks(everything: Sequence[Networks], parts: Sequence[str]) -> list[str]:
    """The page's paragraphs, headings, lists and tables."""
    data = distinct(row.dataset for networks in everything for row in networks.rows)
    solvers = distinct((row.solver for networks in everything for row in networks.rows), SOLVERS)
    views = {solver: [of_solver(networks, solver) for networks in everything] for solver in solvers}
    found = [
        f"# Schedules for deterministic solvers on {' and '.join(data) or 'unstated data'}",
        "Made by the program from what it measured; every verdict is computed from the numbers beside it.",
        *bullets(
            [
                *([f"Parts run: {', '.join(parts)}."] if parts else []),
                *measured(everything),
                INDEPENDENCE,
                f"{YARDSTICK} searches the judge’s own distance on sampling seeds that no row is judged on: "
                "nobody would use it, but it says how much any schedule can win.",
                "Every schedule is run by every solver: one that was searched for another solver stands in a "
                "table with what that costs.",
            ]
        ),
        *health(everything),
        "## Does one optimizer win everywhere?",
        *(block for solver, of in views.items() for block in verdict_section(solver, of)),
    ]
    for solver, of in views.items():
        for networks in of:
            found += [f"## {solver}, {networks.process} process", *_tables(networks)]
    return found


def of_solver(networks: Networks, solver: str) -> Networks:
    """What was measured under one solver, and what no solver has a part in."""
    return replace(networks, rows=[row for row in networks.rows if row.solver in (None, solver)])


def _tables(networks: Networks) -> list[str]:
    if networks.panel is None:
        return ["No samples were judged."]
    tables = [mean_table(networks), *(difference_table(networks, baseline) for baseline in COMPARED)]
    drawn = [markdown_table(table) for table in tables if table.rows]
    return [*drawn, *share_table(networks), *cost_table(networks)]
