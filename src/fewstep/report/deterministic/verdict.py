"""Whether one optimizer wins most of what there is to win everywhere, and never loses to a fixed rule."""

from collections.abc import Sequence

from fewstep.report.ddim.networks import Networks
from fewstep.report.ddim.verdicts import cells_of
from fewstep.report.deterministic.gains import AIM, Share, searched, shares
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, listing, number
from fewstep.report.rows import FIXED_RULES
from fewstep.report.tables import Cell, Table

RULE = (
    f"The aim: at least {number(100 * AIM, 0)} % of the yardstick’s gain at every K on every process, and at no K "
    "worse than a fixed rule (the 95 % interval of the difference over paired sampling seeds excludes zero and "
    "all networks agree in sign)."
)


def verdict_section(solver: str, everything: Sequence[Networks]) -> list[str]:
    """A row for every searched schedule optimizer under one solver, best first, and a sentence."""
    rows = [(name, *_standing(everything, name)) for name in searched(everything)]
    if not rows:
        return [f"{solver}: no searched schedule was sampled."]
    rows.sort(key=lambda row: (row[2], -sum(share.value >= AIM for share in row[1])))
    table = [_row(name, found, losses, cells) for name, found, losses, cells in rows]
    heads = [
        "schedule optimizer",
        f"shares of at least {number(100 * AIM, 0)} %",
        "least share",
        "worse than some fixed rule",
        "cells",
    ]
    met = [name for name, found, losses, _ in rows if found and not losses and _least(found).value >= AIM]
    says = (
        f"**{listing(met)} {'reaches' if len(met) == 1 else 'reach'} the aim.**"
        if met
        else "**No optimizer reaches the aim.**"
        if any(found for _, found, _, _ in rows)
        else "**Not judged:** the yardstick was not run, or its gain is nowhere beyond its interval."
    )
    caption = f"{solver}. {RULE} A cell is a process and a K; a share needs a gain of the yardstick to be of."
    return [markdown_table(Table(caption, heads, table)), says]


def _standing(everything: Sequence[Networks], name: str) -> tuple[list[Share], int, int]:
    """The shares of a row, the cells in which it is worse than some fixed rule, and all its cells."""
    found = [
        share
        for networks in everything
        for K in networks.steps
        for share in shares(networks, K)
        if share.name == name
    ]
    worse = {
        (one.process, one.steps)
        for rule in sorted(FIXED_RULES)
        for one in cells_of(everything, name, rule)
        if one.says == "worse"
    }
    cells = sum(K in networks.distances.get(name, {}) for networks in everything for K in networks.steps)
    return found, len(worse), cells


def _least(found: Sequence[Share]) -> Share:
    return min(found, key=lambda share: share.value)


def _row(name: str, found: Sequence[Share], losses: int, cells: int) -> list[Cell]:
    reached = sum(share.value >= AIM for share in found)
    return [
        Cell(name),
        Cell(f"{reached} of {len(found)}" if found else NOTHING),
        Cell(f"{_least(found).text}, K = {_least(found).steps}" if found else NOTHING),
        Cell(str(losses)),
        Cell(str(cells)),
    ]
