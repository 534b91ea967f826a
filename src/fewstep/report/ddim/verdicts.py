"""For which K the discretization schedules beat the baselines, and whether that is the consistency claimed."""

from collections.abc import Iterable, Mapping, Sequence

from fewstep.report.claim import NOT_MEASURED, NOT_SHOWN, PARTLY, SHOWN
from fewstep.report.ddim.networks import BASELINES, Against, Networks
from fewstep.report.ddim.quality import at_steps
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM
from fewstep.report.printing import fid_decimals
from fewstep.report.rows import TUNED
from fewstep.report.tables import Cell, Table

METHOD = "discretization"
CLAIM = (
    "The discretization loss’s schedule improves consistently over the baseline across step counts (Huang 2024, "
    "abstract; the method here is a reconstruction)."
)
RULE = (
    "A cell is a process and a K. A row is better (or worse) in it where the 95 % interval over paired sampling "
    "seeds excludes zero and every network’s difference has the same sign; otherwise the cell is unclear. Shown: "
    "better in every cell. Shown in part: better in more cells than worse. Not shown: anything else. Against all "
    "three, better means better than each, worse means worse than any."
)


def methods_of(everything: Sequence[Networks]) -> list[str]:
    """The rows that the claim is about: untuned ones first, then tuned and alternated ones."""
    names = dict.fromkeys(
        name for networks in everything for name in networks.distances if name.startswith(METHOD)
    )
    return sorted(names, key=lambda name: name.endswith(TUNED))


def cells_of(everything: Sequence[Networks], name: str, baseline: str) -> list[Against]:
    """Every process and K that has both."""
    return [
        one
        for networks in everything
        for K in networks.steps
        if (one := networks.against(name, baseline, K)) is not None
    ]


def says_of_all(against: Sequence[Against]) -> str:
    """One cell against several baselines: better than all of them, worse than any, or unclear."""
    said = {one.says for one in against}
    return "worse" if "worse" in said else "better" if said == {"better"} else "unclear"


def verdict(cells: Sequence[Against]) -> str:
    """What `RULE` says; not measured where no cell has enough paired seeds for a claim."""
    if max((one.difference.seeds for one in cells), default=0) < PAIRED_SEEDS_FOR_A_CLAIM:
        return NOT_MEASURED
    return _verdict([one.says for one in cells])


def _verdict(said: Sequence[str]) -> str:
    better, worse = said.count("better"), said.count("worse")
    if better == len(said):
        return SHOWN
    return PARTLY if better > worse else NOT_SHOWN


def verdict_section(everything: Sequence[Networks]) -> list[str]:
    """The claim against every baseline, and for which K it holds, process by process."""
    compared = {
        (name, baseline): cells
        for name in methods_of(everything)
        for baseline in BASELINES
        if (cells := cells_of(everything, name, baseline))
    }
    if not compared:
        return [CLAIM, f"**{NOT_MEASURED.capitalize()}.** No row of the discretization loss was sampled."]
    caption = f"{RULE} A tuned row stands against an untuned baseline, so that tuning alone may be its gain."
    rows = [row for name in methods_of(everything) for row in _rows(name, compared)]
    return [
        CLAIM,
        markdown_table(Table(caption, HEADS, rows, headings=3)),
        *_few(compared.values()),
        *(block for name in methods_of(everything) for block in _told(everything, name)),
    ]


ALL = "all three"
HEADS = ["schedule", "against", "verdict", "better", "worse", "unclear", "cells"]


def _rows(name: str, compared: Mapping[tuple[str, str], Sequence[Against]]) -> list[list[Cell]]:
    """One row of the table for every baseline, and one for all of them together."""
    by_baseline = {other: compared[name, other] for other in BASELINES if (name, other) in compared}
    rows = [_row(name, other, verdict(cells), [c.says for c in cells]) for other, cells in by_baseline.items()]
    if len(by_baseline) == len(BASELINES):
        said = [says_of_all(cell) for cell in zip(*by_baseline.values(), strict=True)]
        measured = any(verdict(cells) != NOT_MEASURED for cells in by_baseline.values())
        rows.append(_row(name, ALL, _verdict(said) if measured else NOT_MEASURED, said))
    return rows


def _row(name: str, baseline: str, verdict: str, said: Sequence[str]) -> list[Cell]:
    counts = [said.count(word) for word in ("better", "worse", "unclear")]
    return [
        Cell(name),
        Cell(baseline),
        Cell(verdict, bold=True),
        *(Cell(str(count)) for count in (*counts, len(said))),
    ]


def _few(compared: Iterable[Sequence[Against]]) -> list[str]:
    most = max(one.difference.seeds for cells in compared for one in cells)
    if most >= PAIRED_SEEDS_FOR_A_CLAIM:
        return []
    return [
        f"With at most {most} paired seeds, where a claim needs {PAIRED_SEEDS_FOR_A_CLAIM}, nothing is claimed."
    ]


def _told(everything: Sequence[Networks], name: str) -> list[str]:
    """Better, worse and unclear at which K, by process and baseline."""
    sentences = []
    for networks in everything:
        for baseline in BASELINES:
            cells = cells_of([networks], name, baseline)
            if cells and networks.panel:
                decimals = fid_decimals([networks.panel])
                parts = [
                    f"{word} at {at_steps(found, decimals)}"
                    for word in ("better", "worse", "unclear")
                    if (found := [one for one in cells if one.says == word])
                ]
                sentences.append(f"{networks.process}, against {baseline}: {'; '.join(parts)}.")
    return [f"**{name}**, minus the baseline:", *bullets(sentences)] if sentences else []
