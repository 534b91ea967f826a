"""L_simple, L_hybrid and L_vlb compared: bits/dim on the full grid and on 32 steps."""

from fewstep.report.claim import Claim, not_measured, order_verdict
from fewstep.report.differences import Difference, bits_difference
from fewstep.report.estimates import Estimate
from fewstep.report.markdown import markdown_table
from fewstep.report.part import LOSSES, Likelihood, Part
from fewstep.report.printing import BITS_DECIMALS, NOTHING, with_error
from fewstep.report.study.few_steps import STEPS
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.study.variances import FIXED, LEARNED
from fewstep.report.tables import Cell, Table

PAIRS = (("vlb", "hybrid"), ("hybrid", "simple"))  # fewer bits/dim as published first
PLACES = ("the full grid", f"K = {STEPS}")


def losses_in_order(study: Study) -> Claim:
    """Whether L_vlb has the fewest bits/dim and L_simple the most."""
    said = (
        "L_vlb has the fewest bits/dim, L_hybrid more, L_simple (fixed variance) the most, on the full grid and "
        f"on {STEPS} steps (published for CIFAR-10)."
    )
    by_process: dict[str, dict[str, Part]] = {}
    for network in study.networks:
        if network.loss:
            by_process.setdefault(network.process, {})[network.loss] = network
    differences: dict[str, Difference] = {}
    for process, networks in by_process.items():
        for place in PLACES:
            for a, b in PAIRS:
                first, second = (_judged(networks.get(loss), place) for loss in (a, b))
                if first and second and (difference := bits_difference(first, second)) is not None:
                    differences[f"L_{a} minus L_{b}, {process}, {place}"] = difference
    if not differences:
        return not_measured(said, study.without(NETWORKS))
    holds = sum(difference.mean < 0 for difference in differences.values())
    text = (
        f"L_simple is judged under the better of {' and '.join(FIXED)} variance, the other two under the variance "
        f"that they learned. Differences in bits/dim, with the standard error over images as if unpaired; how "
        f"they vary from one training to the next is not measured: "
        + "; ".join(f"{name} {difference.text()}" for name, difference in differences.items())
        + "."
    )
    short = f"in the published order in {holds} of {len(differences)} comparisons"
    table = markdown_table(_table(by_process))
    return Claim(said, order_verdict(list(differences.values())), short, [text, table])


def _judged(network: Part | None, place: str) -> Estimate | None:
    """Bits/dim under the learned variance, or else under the better fixed one."""
    if network is None:
        return None
    kinds = (LEARNED,) if network.loss != "simple" else FIXED
    found = [_bits(likelihood, place) for likelihood in map(network.likelihood, kinds) if likelihood]
    return min((bits for bits in found if bits), key=lambda bits: bits.mean, default=None)


def _bits(likelihood: Likelihood, place: str) -> Estimate | None:
    return likelihood.panel.reference if place == PLACES[0] else likelihood.at(SEARCHED, STEPS)


def _table(by_process: dict[str, dict[str, Part]]) -> Table:
    rows = []
    for process, networks in by_process.items():
        for loss in LOSSES:
            for likelihood in networks[loss].likelihoods if loss in networks else []:
                found = [_bits(likelihood, place) for place in PLACES]
                texts = [with_error(e.mean, e.standard_error, BITS_DECIMALS) if e else NOTHING for e in found]
                rows.append([Cell(process), Cell(f"L_{loss}"), Cell(likelihood.label), *map(Cell, texts)])
    caption = f"Bits/dim of {SEARCHED} and of the full grid ± standard error over images."
    return Table(caption, ["process", "loss", "variance", *PLACES], rows, headings=3)
