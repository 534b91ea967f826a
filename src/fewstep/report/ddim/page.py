"""The page in Markdown, made from the parts' `results.csv` alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewstep.files import write_atomically
from fewstep.report.ddim.causes import causes_section
from fewstep.report.ddim.fine_steps import fine_step_tables
from fewstep.report.ddim.gaps import gap_table
from fewstep.report.ddim.header import header
from fewstep.report.ddim.networks import Networks, read_networks
from fewstep.report.ddim.nodes import node_table
from fewstep.report.ddim.objectives import rank_tables
from fewstep.report.ddim.prototype import prototype_table
from fewstep.report.ddim.quality import distance_tables
from fewstep.report.ddim.tuning import tuning_table
from fewstep.report.ddim.verdicts import verdict_section
from fewstep.report.markdown import markdown_table
from fewstep.report.rows import distinct


def write_ddim(page: Path, reports: Mapping[str, Path]) -> None:
    """Write the page.

    Args:
        page: the Markdown file.
        reports: part → the folder of its report, which holds `results.csv`; any subset of the sweep's parts.

    Raises:
        UserError: a part's results are missing, damaged, empty, or of several datasets or processes.
    """
    write_atomically(Path(page), "\n\n".join(blocks(read_networks(reports), list(reports))) + "\n")


def blocks(everything: Sequence[Networks], parts: Sequence[str] = ()) -> list[str]:
    """The page's paragraphs, headings, lists and tables."""
    data = distinct(row.dataset for networks in everything for row in networks.rows)
    found = [
        f"# Few steps of DDIM on {' and '.join(data) or 'unstated data'}",
        "Made by the program from what it measured; every verdict is computed from the numbers beside it.",
        *header(everything, parts),
        "## What the paper says, and what these numbers show",
        *verdict_section(everything),
        "## Why",
        *causes_section(everything),
    ]
    for networks in everything:
        found += [f"## Process: {networks.process}", "### Fréchet distances", *distance_tables(networks)]
        found += ["### Tuned and alternated", *tuning_table(networks)]
        found += ["### Distance to the same noise’s fine-step output", *fine_step_tables(networks)]
        found += ["### Do objectives rank schedules as their samples do?", *rank_tables(networks)]
        found += ["### Optimality gap of the gradient search", *gap_table(networks)]
        found += ["### Where the nodes lie"]
        found += [block for K in networks.steps for block in node_table(networks, K)]
    return [*found, "## A prototype’s figures", markdown_table(prototype_table())]
