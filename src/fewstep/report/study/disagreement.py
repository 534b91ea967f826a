"""Whether bits/dim and Fréchet distances order schedules alike."""

from collections.abc import Sequence
from typing import NamedTuple

from fewstep.report.claim import NOT_SHOWN, PARTLY, SHOWN, Claim, not_measured
from fewstep.report.differences import Difference, few_seeds
from fewstep.report.fid_findings import opposite_pairs
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import NOTHING, listing, signed, span
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.study.quality import columns_of, heading
from fewstep.report.tables import Cell, Table

RULES = ("even", "quadratic")


class Agreement(NamedTuple):
    """The searched schedule against a rule by two metrics, at one network, solver and K."""

    bits: Difference
    distance: Difference

    @property
    def says(self) -> str | None:
        """`opposite` or `same`, where the distance makes a claim; else None."""
        if not self.distance.is_claim or self.bits.mean == 0:
            return None
        return "opposite" if (self.bits.mean < 0) != (self.distance.mean < 0) else "same"


def disagreement(study: Study) -> Claim:
    """Whether fewer bits/dim mean a smaller Fréchet distance."""
    said = (
        "Fewer bits/dim need not mean a better FID: schedules searched for the one lose in the other "
        "(Watson et al. 2021)."
    )
    ranks, agreements = _ranks(study.networks), _agreements(study.networks)
    if not agreements:
        return not_measured(said, study.without(NETWORKS))
    few = few_seeds([one.distance for one in agreements])
    if few:
        return not_measured(said, [few, markdown_table(ranks)])
    opposite, same = (sum(one.says == word for one in agreements) for word in ("opposite", "same"))
    verdict = NOT_SHOWN if not opposite else SHOWN if opposite > same else PARTLY
    lower = sum(one.bits.mean < 0 for one in agreements)
    sentence = (
        f"{SEARCHED} against {listing(RULES)}, fixed in advance, at every network, solver and K with both "
        f"metrics: {len(agreements)} comparisons. Bits/dim are lower for {SEARCHED} in {lower}. The Fréchet "
        f"distance says the opposite of bits/dim, by more than twice its standard error over paired seeds, in "
        f"{opposite}, the same in {same}, and tells neither in {len(agreements) - opposite - same}."
    )
    return Claim(
        said,
        verdict,
        f"opposite in {opposite}, alike in {same} of {len(agreements)} comparisons",
        [sentence, markdown_table(ranks)],
    )


def _agreements(networks: Sequence[Part]) -> list[Agreement]:
    """At every network, solver and K, against every rule."""
    return [
        Agreement(by_bits, by_distance)
        for network in networks
        if network.preferred
        for distance, K in columns_of(network.distances)
        for rule in RULES
        for by_bits in [network.preferred.difference(SEARCHED, rule, K)]
        for by_distance in [distance.difference(SEARCHED, rule, K)]
        if by_bits is not None and by_distance is not None
    ]


def _ranks(networks: Sequence[Part]) -> Table:
    """Kendall's τ between the two metrics over schedule optimizers: networks × solvers and K's."""
    cells: dict[str, dict[str, str]] = {}
    sizes = set()
    for network in networks:
        bits = network.preferred
        for distance, K in columns_of(network.distances) if bits else []:
            opposite, pairs = opposite_pairs(bits.panel, distance.panel, K) if bits else (0, 0)
            if pairs:
                sizes.add(pairs)
                tau = signed(1 - 2 * opposite / pairs, 2)
                cells.setdefault(network.name, {})[heading((distance, K))] = tau
    heads = list(dict.fromkeys(head for by_head in cells.values() for head in by_head))
    caption = (
        "Kendall’s τ between bits/dim and the mean Fréchet distance over the schedule optimizers "
        f"({span(sorted(sizes), 0) if sizes else 'no'} pairs): +1 where both order them alike, −1 where they "
        f"order them oppositely. As orders of means these are uncertain themselves."
    )
    rows = [[Cell(name), *(Cell(by_head.get(head, NOTHING)) for head in heads)] for name, by_head in cells.items()]
    return Table(caption, ["network", *heads], rows)
