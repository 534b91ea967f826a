"""Learned variance against the fixed kinds."""

from typing import NamedTuple

from fewstep.report.claim import Claim, not_measured, order_verdict
from fewstep.report.differences import Difference, bits_difference
from fewstep.report.estimates import Estimate
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Likelihood, Part
from fewstep.report.printing import NOTHING
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import Study
from fewstep.report.tables import Cell, Table

LEARNED, FIXED, FITTED = "learned", ("posterior", "beta"), "optimal"
LEARNING = ("cosine_hybrid", "linear_hybrid", "cosine_vlb", "linear_vlb")
FULL = "full grid"


class Against(NamedTuple):
    """Learned variance minus another, at one network and K (or the full grid)."""

    network: str
    steps: str
    rival: str
    difference: Difference


def learned_variance(study: Study) -> Claim:
    """The searched schedules' bits/dim under learned variance minus those under the better fixed kind."""
    said = "A learned variance has fewer bits/dim than either fixed kind (Nichol & Dhariwal 2021)."
    against = [one for network in study.networks for one in _against(network)]
    fixed = [one.difference for one in against if one.rival != FITTED]
    if not fixed:
        return not_measured(said, study.without(LEARNING))
    lower = sum(difference.mean < 0 for difference in fixed)
    clear = sum(difference.is_claim and difference.mean < 0 for difference in fixed)
    text = (
        f"Under learned variance {SEARCHED}, searched under each kind for itself, has fewer bits/dim than under "
        f"the better of {' and '.join(FIXED)} in {lower} of {len(fixed)} comparisons (network and K, the full "
        f"grid included), in {clear} by more than twice the standard error (taken as unpaired, so cautious)."
    )
    fitted = [one.difference.mean < 0 for one in against if one.rival == FITTED]
    if fitted:
        text += (
            f" Against {FITTED}, one variance per step fitted on the images behind the search and no work for the "
            f"network, it has fewer in {sum(fitted)} of {len(fitted)}."
        )
    short = f"fewer in {lower} of {len(fixed)} comparisons"
    return Claim(said, order_verdict(fixed), short, [text, markdown_table(_table(against))])


def _against(network: Part) -> list[Against]:
    """At every K and on the full grid: learned minus the better fixed kind, and minus optimal."""
    learned = network.likelihood(LEARNED)
    if learned is None:
        return []
    found = []
    for K in [*learned.steps, None]:
        mine = _bits(learned, K)
        kinds = {kind: _bits(network.likelihood(kind), K) for kind in (*FIXED, FITTED)}
        fixed = {kind: bits for kind in FIXED if (bits := kinds[kind]) is not None}
        rivals = [min(fixed, key=lambda kind: fixed[kind].mean)] if fixed else []
        for rival in [*rivals, FITTED]:
            other = kinds[rival]
            if mine is not None and other is not None and (difference := bits_difference(mine, other)) is not None:
                found.append(Against(network.name, FULL if K is None else f"K = {K}", rival, difference))
    return found


def _bits(likelihood: Likelihood | None, steps: int | None) -> Estimate | None:
    if likelihood is None:
        return None
    return likelihood.panel.reference if steps is None else likelihood.at(SEARCHED, steps)


def _table(against: list[Against]) -> Table:
    steps = list(dict.fromkeys(one.steps for one in against))
    rows = []
    for network in dict.fromkeys(one.network for one in against):
        for fitted in (False, True):
            here = {
                one.steps: one for one in against if one.network == network and (one.rival == FITTED) == fitted
            }
            if here:
                name = FITTED if fitted else "better fixed"
                rows.append([Cell(network), Cell(name), *(_cell(here.get(head), fitted) for head in steps)])
    caption = (
        f"Bits/dim of {SEARCHED} under learned variance minus those under another; bold: beyond twice the "
        f"standard error; in brackets which fixed kind is the better one."
    )
    return Table(caption, ["network", "against", *steps], rows, headings=2)


def _cell(one: Against | None, fitted: bool) -> Cell:
    if one is None:
        return Cell(NOTHING)
    return one.difference.cell() if fitted else one.difference.cell()._replace(detail=one.rival)
