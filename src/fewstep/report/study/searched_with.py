"""Schedules searched with other statistics of the same network: what the others cost on the same test images."""

from collections.abc import Mapping

from fewstep.report.differences import Difference, bits_difference
from fewstep.report.estimates import Estimate
from fewstep.report.part import Likelihood, Part
from fewstep.report.printing import NOTHING
from fewstep.report.rows import VARIANCES, distinct
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.tables import Cell, Table

FULL = "full grid"
FITTED_KIND = "optimal"
ONE_DRAW = (
    "One draw of images and noise stands behind every row, so how the differences vary from draw to draw is not "
    "measured."
)
FITTED = (
    "Under optimal variance the same images fit the variances too: the full grid’s column shows that share alone, "
    "and is zero under the other kinds."
)
Differences = dict[tuple[str, str], Difference]  # by (variance, K or the full grid)


def differences_between(part: Part, other: Part) -> Differences:
    """Bits/dim of the searched schedules of one part minus those of another, and the full grid's likewise.

    Each part's own error over images is far larger than that of a difference on the same images, which results do
    not hold, so none is stated.
    """
    found = {}
    for likelihood in part.likelihoods:
        rival = next((one for one in other.likelihoods if one.label == likelihood.label), None)
        theirs = estimates(rival) if rival else {}
        for head, mine in estimates(likelihood).items():
            if head in theirs and (difference := bits_difference(mine, theirs[head])) is not None:
                found[likelihood.label, head] = difference._replace(error=None)
    return found


def estimates(likelihood: Likelihood) -> dict[str, Estimate]:
    """The searched schedules' by K, and the full grid's."""
    found = {f"K = {K}": bits for K in likelihood.steps if (bits := likelihood.at(SEARCHED, K)) is not None}
    return found | ({FULL: likelihood.panel.reference} if likelihood.panel.reference else {})


def costs(differences: Differences) -> list[float]:
    """Those of searched schedules: without the full grid's, which no search has found."""
    return [difference.mean for (_, head), difference in differences.items() if head != FULL]


def costs_of_schedules(differences: Differences) -> list[float]:
    """Those under variance kinds that are not fitted, where the two parts differ in their schedules alone."""
    return costs({key: one for key, one in differences.items() if not key[0].startswith(FITTED_KIND)})


def costs_with_fits(differences: Differences) -> list[float]:
    """Those under the fitted kind, where the parts differ in the variances too."""
    return costs({key: one for key, one in differences.items() if key[0].startswith(FITTED_KIND)})


def kinds_of(rows: Mapping[int, Differences]) -> list[str]:
    """Every variance kind, in the report's order."""
    return distinct((kind for of_n in rows.values() for kind, _ in of_n), VARIANCES)


def heads_of(rows: Mapping[int, Differences]) -> list[str]:
    """Every K, the full grid last."""
    heads = list(dict.fromkeys(head for of_n in rows.values() for _, head in of_n))
    return sorted(heads, key=lambda head: head == FULL)


def difference_table(caption: str, rows: Mapping[int, Differences]) -> Table:
    """Variance kinds and numbers of images × K."""
    lines = [[Cell(kind), *line(kind, n, rows)] for kind in kinds_of(rows) for n in rows]
    return Table(caption, ["variance", "images", *heads_of(rows)], lines, headings=2)


def line(kind: str, n: int, rows: Mapping[int, Differences]) -> list[Cell]:
    """The differences of one number of images under one variance kind."""
    found = [rows[n].get((kind, head)) for head in heads_of(rows)]
    return [Cell(str(n)), *(Cell(NOTHING) if one is None else one.cell() for one in found)]
