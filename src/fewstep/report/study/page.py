"""The page of a study in Markdown, made from its parts' `results.csv` alone."""

from collections.abc import Mapping
from pathlib import Path

from fewstep.files import write_atomically
from fewstep.report.claim import Claim
from fewstep.report.markdown import markdown_table
from fewstep.report.papers.published import published
from fewstep.report.printing import number
from fewstep.report.rows import distinct
from fewstep.report.study.disagreement import disagreement
from fewstep.report.study.few_steps import near_full_grid, steps_within_section
from fewstep.report.study.few_timesteps import auto_section
from fewstep.report.study.fresh_noise import fresh_section
from fewstep.report.study.header import header
from fewstep.report.study.images import few_images_suffice, images_section
from fewstep.report.study.losses import losses_in_order
from fewstep.report.study.ordering import quadratic_below_even, searched_below_fixed
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.study.quality import distance_section
from fewstep.report.study.reweighting import reweighting_helps
from fewstep.report.study.tuning import finetuning_section
from fewstep.report.study.variances import learned_variance
from fewstep.report.tables import Cell, Table, likelihood_table

WHOLE_GRID = 1000  # the fewest timesteps of the published networks
CLAIMS = (
    searched_below_fixed,
    quadratic_below_even,
    near_full_grid,
    few_images_suffice,
    disagreement,
    reweighting_helps,
    learned_variance,
    losses_in_order,
)


def write_study(page: Path, reports: Mapping[str, Path]) -> None:
    """Write the page.

    Args:
        page: the Markdown file.
        reports: part → the folder of its report, which holds `results.csv`; any subset of the study's parts.

    Raises:
        UserError: a part's results are missing, damaged, empty, or of several datasets or processes.
    """
    write_atomically(Path(page), "\n\n".join(blocks(Study.read(reports))) + "\n")


def blocks(study: Study) -> list[str]:
    """The page's paragraphs, headings, lists and tables."""
    claims = [claim(study) for claim in CLAIMS]
    data = distinct(row.dataset for part in study.parts.values() for row in part.rows)
    return [
        f"# The whole study on {' and '.join(data) or 'unstated data'}",
        "Made by the program from what it measured; every verdict is computed from the numbers beside it.",
        *header(study),
        "## What the papers say, and what these numbers show",
        *study.without(NETWORKS),
        markdown_table(_verdicts(claims)),
        *(block for number, claim in enumerate(claims, start=1) for block in _told(number, claim)),
        "## Bits/dim",
        *_bits_per_dim(study),
        "## Fréchet distances",
        *distance_section(study),
        "## How many steps are enough",
        *steps_within_section(study),
        "## Ablations of the statistics",
        "### Images behind the statistics",
        *images_section(study),
        "### Fresh noise at every timestep against common noise",
        *fresh_section(study),
        "### Few timesteps against all",
        *auto_section(study),
        "## Fine-tuning",
        *finetuning_section(study),
    ]


def _verdicts(claims: list[Claim]) -> Table:
    rows = [
        [Cell(str(number)), Cell(claim.said), Cell(claim.verdict, bold=True), Cell(claim.short)]
        for number, claim in enumerate(claims, start=1)
    ]
    return Table("", ["", "said", "here", "figures"], rows, headings=4)


def _told(number: int, claim: Claim) -> list[str]:
    return [f"### {number}. {claim.said}", f"**{claim.verdict.capitalize()}.**", *claim.blocks]


def _bits_per_dim(study: Study) -> list[str]:
    """Tables by network and variance, and the published ones."""
    found = study.without(NETWORKS)
    for network in study.networks:
        found.append(f"### {network.name}")
        found += [markdown_table(likelihood_table(likelihood.panel)) for likelihood in network.likelihoods]
    return [*found, "### As published", markdown_table(_published())]


def _published() -> Table:
    """Watson et al.'s bits/dim on CIFAR-10, for comparison of shape: nothing in it was measured here."""
    paper = published("watson_bits_per_dim")
    blocks = {name: block for name, block in paper.blocks.items() if name.startswith("CIFAR-10")}
    few = [K for K in next(iter(blocks.values())).steps if K < WHOLE_GRID]
    rows = [
        [Cell(name), Cell(row), *(Cell("" if bits is None else number(float(bits), 2)) for bits in figures)]
        for name, block in blocks.items()
        for row, figures in block.figures.items()
    ]
    caption = (
        f"**Published** ({paper.source}; not measured here), for comparison of shape. Published FIDs are of "
        "Inception features and 50,000 samples, and compare with nothing here."
    )
    return Table(caption, ["network", "schedule", *(f"K = {K}" for K in few), "all steps"], rows, headings=2)
