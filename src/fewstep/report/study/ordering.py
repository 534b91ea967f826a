"""The paper's first finding: a searched schedule below quadratic stride, quadratic stride below even stride."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from fewstep.report.claim import Claim, not_measured, order_verdict
from fewstep.report.differences import Difference
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import BITS_DECIMALS, listing, number, signed
from fewstep.report.rows import distinct
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.tables import Cell, Table

SEARCHED = "elbo_dp"


class Comparison(NamedTuple):
    """Bits/dim of one schedule optimizer minus another's."""

    network: str
    variance: str
    steps: int
    rival: str
    difference: Difference


def searched_below_fixed(study: Study) -> Claim:
    """The dynamic programme against quadratic and even stride."""
    said = (
        "A schedule found by dynamic programming has fewer bits/dim than quadratic stride and than even stride, "
        "at every K (Watson et al. 2021)."
    )
    return _claim(study, said, SEARCHED, ("quadratic", "even"))


def quadratic_below_even(study: Study) -> Claim:
    """Quadratic stride against even stride."""
    return _claim(
        study,
        "Quadratic stride has fewer bits/dim than even stride, at every K (Watson et al. 2021).",
        "quadratic",
        ("even",),
    )


def _claim(study: Study, said: str, lower: str, rivals: Sequence[str]) -> Claim:
    compared = comparisons(study.networks, lower, rivals)
    if not compared:
        return not_measured(said, study.without(NETWORKS))
    exceptions = [one for one in compared if not one.difference.mean < 0]
    holds = len(compared) - len(exceptions)
    blocks = [_against(lower, rival, compared) for rival in rivals]
    if exceptions:
        blocks.append(markdown_table(_exceptions(lower, exceptions)))
    return Claim(
        said,
        order_verdict([one.difference for one in compared]),
        f"lower in {holds} of {len(compared)} comparisons",
        blocks,
    )


def comparisons(networks: Sequence[Part], lower: str, rivals: Sequence[str]) -> list[Comparison]:
    """Every rival, network, variance and K for which both were measured."""
    return [
        Comparison(network.name, likelihood.label, K, rival, difference)
        for rival in rivals
        for network in networks
        for likelihood in network.likelihoods
        for K in likelihood.steps
        for difference in [likelihood.difference(lower, rival, K)]
        if difference is not None
    ]


def _against(lower: str, rival: str, compared: Sequence[Comparison]) -> str:
    """How often it is lower, by how much at each K, and how often that is beyond the errors."""
    here = [one for one in compared if one.rival == rival]
    if not here:
        return f"{lower} and {rival} were not both measured."
    holds = [one for one in here if one.difference.mean < 0]
    clear = [one for one in here if one.difference.is_claim and one.difference.mean < 0]
    against = [one for one in here if one.difference.is_claim and one.difference.mean > 0]
    by_steps = [
        f"{signed(median(one.difference.mean for one in here if one.steps == K), BITS_DECIMALS)} at K = {K}"
        for K in sorted({one.steps for one in here})
    ]
    networks, variances = len(distinct(one.network for one in here)), distinct(one.variance for one in here)
    return (
        f"{lower} is lower than {rival} in {len(holds)} of {len(here)} comparisons "
        f"({_several(networks, 'network')}; {listing(variances)} variance; every K), in {len(clear)} of them by "
        f"more than twice the standard error; it is higher by more than that in {len(against)}. Median difference "
        f"over networks and variances, bits/dim: {listing(by_steps)}."
    )


def _several(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _exceptions(lower: str, exceptions: Sequence[Comparison]) -> Table:
    """A row for every rival, network and variance with an exception."""
    grouped: dict[tuple[str, str, str], list[Comparison]] = {}
    for one in exceptions:
        grouped.setdefault((one.rival, one.network, one.variance), []).append(one)
    rows = [
        [
            Cell(rival),
            Cell(network),
            Cell(variance),
            Cell("; ".join(f"K = {one.steps}: {one.difference.text()}" for one in ones)),
        ]
        for (rival, network, variance), ones in grouped.items()
    ]
    largest = max(exceptions, key=lambda one: one.difference.mean if math.isfinite(one.difference.mean) else 0.0)
    caption = (
        f"Every exception: bits/dim of {lower} minus those of the rule, zero or above. The largest is "
        f"{number(largest.difference.mean, BITS_DECIMALS)} ({largest.network}, {largest.variance}, K = "
        f"{largest.steps})."
    )
    return Table(caption, ["rule", "network", "variance", "exceptions"], rows, headings=4)
