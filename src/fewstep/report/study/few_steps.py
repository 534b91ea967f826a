"""How many steps are enough: 32 within 0.1 bits/dim of the full grid, and the fewest within a tolerance."""

from collections.abc import Sequence

from fewstep.report.claim import PARTLY, SHOWN, Claim, not_measured, share_verdict
from fewstep.report.differences import Difference
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import NOTHING, count, span
from fewstep.report.rows import VARIANCES, distinct
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.tables import Cell, Table

STEPS, NEAR = 32, 0.1
PREFIX = "steps_within_"


def near_full_grid(study: Study) -> Claim:
    """Bits/dim of the searched schedule of 32 steps above those of the full grid."""
    said = f"{STEPS} steps stay within {NEAR} bits/dim of the full grid (Watson et al. 2021)."
    above = {
        (network.name, likelihood.label): difference
        for network in study.networks
        for likelihood in network.likelihoods
        for difference in [likelihood.above(SEARCHED, STEPS)]
        if difference is not None
    }
    if not above:
        return not_measured(said, study.without(NETWORKS))
    near = [difference for difference in above.values() if difference.mean <= NEAR]
    below = [key for key, difference in above.items() if difference.mean < 0]
    short = f"within {NEAR} in {len(near)} of {len(above)} cases"
    sentences = [
        f"{SEARCHED} at K = {STEPS} is within {NEAR} bits/dim of the full grid in {len(near)} of {len(above)} "
        f"cases (a case is a network and a variance kind); the difference is "
        f"{span([d.mean for d in above.values()], 3)}."
    ]
    if below:
        short += f"; below the full grid in {len(below)}"
        sentences.append(
            f"In {len(below)} of them {STEPS} steps have fewer bits than the full grid, so that to be near it "
            f"says little there: the full grid visits timesteps at which this variance kind costs more than it "
            f"brings. Where that is so, beyond the errors, in more than half of the cases, the verdict says no "
            f"more than in part."
        )
    caption = (
        f"Bits/dim of {SEARCHED} at K = {STEPS} minus those of the full grid; bold: beyond twice the standard "
        "error."
    )
    table = _by_variance(caption, above)
    return Claim(said, _verdict(list(above.values())), short, [" ".join(sentences), markdown_table(table)])


def _verdict(above: Sequence[Difference]) -> str:
    """All, most or at most half are near; where the full grid mostly costs more than 32 steps, at most in part."""
    verdict = share_verdict(sum(one.mean <= NEAR for one in above), len(above))
    costly = sum(one.is_claim and one.mean < 0 for one in above)
    return PARTLY if verdict == SHOWN and 2 * costly > len(above) else verdict


def _by_variance(caption: str, cases: dict[tuple[str, str], Difference]) -> Table:
    """Networks × variance kinds."""
    networks, variances = distinct(name for name, _ in cases), distinct((kind for _, kind in cases), VARIANCES)
    rows = [
        [Cell(name), *(cases[name, kind].cell() if (name, kind) in cases else Cell(NOTHING) for kind in variances)]
        for name in networks
    ]
    return Table(caption, ["network", *variances], rows)


def steps_within_section(study: Study) -> list[str]:
    """For every network and variance the fewest steps within each tolerance, on the images behind the search."""
    missing = study.without(NETWORKS)
    rows = [row for network in study.networks for row in _steps_within(network)]
    if not rows:
        return [*missing, "Not measured: no part counts the fewest steps within a tolerance."]
    tolerances = sorted({tolerance for _, by_tolerance in rows for tolerance in by_tolerance}, reverse=True)
    images = sorted(
        {
            row.n_images
            for part in study.networks
            for row in part.rows
            if row.metric.startswith(PREFIX) and row.n_images
        }
    )
    table = Table(
        "The smallest K whose optimal schedule stays within a tolerance of the full grid, bits/dim, on the "
        f"{count(images)} images behind the search.",
        ["network", "variance", *(f"within {tolerance:g}" for tolerance in tolerances)],
        [
            [*map(Cell, names), *(Cell(by_tolerance.get(tolerance, NOTHING)) for tolerance in tolerances)]
            for names, by_tolerance in rows
        ],
        headings=2,
    )
    return [*missing, markdown_table(table)]


def _steps_within(network: Part) -> Sequence[tuple[tuple[str, str], dict[float, str]]]:
    found: dict[str, dict[float, list[int]]] = {}
    for row in network.rows:
        if row.metric.startswith(PREFIX) and not row.finetuned:
            tolerance = float(row.metric.removeprefix(PREFIX))
            found.setdefault(row.variance or "unstated", {}).setdefault(tolerance, []).append(round(row.value))
    return [
        ((network.name, kind), {tolerance: span(ks, 0) for tolerance, ks in found[kind].items()})
        for kind in distinct(found, VARIANCES)
    ]
