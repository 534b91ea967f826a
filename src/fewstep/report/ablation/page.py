"""The page of an ablation, in Markdown with its plots beside it and in HTML with everything inside."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.report.ablation.cost import cost_heading
from fewstep.report.ablation.estimator import estimator
from fewstep.report.ablation.finetune_iterations import finetune_iterations
from fewstep.report.ablation.power import power
from fewstep.report.ablation.process import process
from fewstep.report.ablation.seeds import seeds
from fewstep.report.ablation.settings import Setting, kind_of, read_settings
from fewstep.report.content import Content, Plot
from fewstep.report.failure_signatures import failure_signatures
from fewstep.report.findings import Finding, health_findings
from fewstep.report.markdown import bullets, heading_blocks
from fewstep.report.methods import methods
from fewstep.report.page import Picture, Section, rendered_page, subtitle
from fewstep.report.style import png

ABLATIONS: dict[str, Callable[[Sequence[Setting]], Content]] = {
    "iterations": finetune_iterations,
    "process": process,
    "power": power,
    "images": estimator,
    "seed": seeds,
}


def write_ablation(page: Path, reports: Mapping[str, Path]) -> None:
    """Write the page, its plots as PNG beside it, and the same as one HTML file.

    Args:
        page: the Markdown file.
        reports: part, such as `power_0.5`, → the folder of its report, which holds `results.csv`.

    Raises:
        UserError: the parts are not of one known ablation; results are missing, damaged or empty.
    """
    kinds = list(dict.fromkeys(map(kind_of, reports)))
    if len(kinds) != 1 or kinds[0] not in ABLATIONS:
        raise UserError(
            f"The parts {', '.join(reports)} are not of one ablation; a part is named {', '.join(ABLATIONS)}, "
            "then _ and the value."
        )
    settings = read_settings(reports)
    content = ABLATIONS[kinds[0]](settings)
    if len(settings) == 1:
        alone = f"Only {settings[0].part.name} was run, so that there is nothing to compare it with."
        content = content._replace(findings=[alone, *content.findings])
    content = content._replace(headings=[*content.headings, *cost_heading(settings, kinds[0])])
    page = Path(page)
    for plot in _plots(content):
        write_atomically(page.parent / f"{plot.name}.png", png(plot.figure))
    notes = _notes(settings)
    write_atomically(page, "\n\n".join(_blocks(content, notes)) + "\n")
    write_atomically(page.with_suffix(".html"), _html(content, notes, settings))


def _plots(content: Content) -> list[Plot]:
    return [plot for heading in content.headings for plot in heading.plots]


def _notes(settings: Sequence[Setting]) -> list[tuple[str, list[str]]]:
    """Health of the networks and signs of failure, each sentence once with the settings it is of."""
    notes = []
    for topic, told in (("Health of the network", health_findings), ("Signs of failure", failure_signatures)):
        of: dict[str, list[str]] = {}
        for setting in settings:
            for sentence in told(setting.part.rows):
                of.setdefault(sentence, []).append(setting.part.name)
        sentences = [
            sentence if len(parts) == len(settings) else f"{', '.join(parts)}: {sentence}"
            for sentence, parts in of.items()
        ]
        if sentences:
            notes.append((topic, sentences))
    return notes


def _blocks(content: Content, notes: Sequence[tuple[str, list[str]]]) -> list[str]:
    blocks = [f"# {content.title}", content.about, "## What it shows", *bullets(content.findings)]
    blocks += [block for heading in content.headings for block in heading_blocks(heading)]
    for topic, sentences in notes:
        blocks += [f"## {topic}", *bullets(sentences)]
    return blocks


def _html(content: Content, notes: Sequence[tuple[str, list[str]]], settings: Sequence[Setting]) -> str:
    sections = [
        Section(heading.text, heading.tables, [_picture(plot) for plot in heading.plots], (), heading.sentences)
        for heading in content.headings
    ]
    rows = [row for setting in settings for row in setting.part.rows]
    return rendered_page(
        content.title,
        subtitle(rows),
        [Finding("", [content.about]), *(Finding("", [sentence]) for sentence in content.findings)],
        [*sections, *(Section(topic, sentences=sentences) for topic, sentences in notes)],
        methods(settings[0].part.rows),
    )


def _picture(plot: Plot) -> Picture:
    return Picture(plot.caption, f"data:image/png;base64,{base64.b64encode(png(plot.figure)).decode()}")
