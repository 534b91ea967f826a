"""What lucky timesteps cost: statistics with fresh noise at every timestep against common noise."""

import math

from fewstep.report.claim import NEGLIGIBLE
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.printing import BITS_DECIMALS, signed, span
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import FRESH, Study
from fewstep.report.study.searched_with import (
    FITTED,
    ONE_DRAW,
    Differences,
    costs_of_schedules,
    costs_with_fits,
    difference_table,
    differences_between,
)


def fresh_section(study: Study) -> list[str]:
    """Schedules found with fresh noise minus those found with common noise, with as many images."""
    blocks = study.without(FRESH)
    fresh, common = study.numbered("fresh"), study.numbered("images")
    unpaired = [f"images_{n:04d}" for n in fresh if n not in common]
    if unpaired:
        blocks.append(f"*Nothing to compare with: {', '.join(unpaired)} not run.*")
    differences = {n: differences_between(part, common[n]) for n, part in fresh.items() if n in common}
    differences = {n: of_n for n, of_n in differences.items() if costs_of_schedules(of_n)}
    if not differences:
        return [*blocks, "Not measured: a comparison needs fresh and common noise at one number of images."]
    caption = (
        f"Bits/dim on test images of {SEARCHED} found with fresh noise at every timestep minus those found with "
        f"one ε per image common to all timesteps. {ONE_DRAW} {FITTED}"
    )
    verdict = _verdict([cost for of_n in differences.values() for cost in costs_of_schedules(of_n)])
    return [
        *blocks,
        f"**{verdict}** Neither paper mentions it.",
        *bullets([_with(n, of_n) for n, of_n in differences.items()]),
        markdown_table(difference_table(caption, differences)),
    ]


def _verdict(found: list[float]) -> str:
    """Whether fresh noise costs more in most cases and on average."""
    mean, worse = math.fsum(found) / len(found), sum(cost > 0 for cost in found)
    figures = f"{worse} of {len(found)} cases, {signed(mean, BITS_DECIMALS)} bits/dim on average"
    if mean > 0 and 2 * worse > len(found):
        return f"Fresh noise costs bits: higher in {figures}."
    return f"That fresh noise costs bits is not shown here: higher in {figures}."


def _with(n: int, differences: Differences) -> str:
    found, fitted = costs_of_schedules(differences), costs_with_fits(differences)
    also = (
        f" Under optimal variance, which the same statistics fit, by {span(fitted, BITS_DECIMALS)}."
        if fitted
        else ""
    )
    return (
        f"With {n} images fresh noise changes bits/dim by {signed(math.fsum(found) / len(found), BITS_DECIMALS)} "
        f"on average over K and the variance kinds that are not fitted ({span(found, BITS_DECIMALS)}); it costs "
        f"more in {sum(cost > 0 for cost in found)} of {len(found)} cases, more than {NEGLIGIBLE} in "
        f"{sum(cost > NEGLIGIBLE for cost in found)}.{also}"
    )
