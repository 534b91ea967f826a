"""How many images the statistics need: schedules found with n images, judged on the same test images."""

from fewstep.report.claim import NEGLIGIBLE, Claim, not_measured, share_verdict
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import BITS_DECIMALS, NOTHING, count, listing, number, span, with_error
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import IMAGES, Study
from fewstep.report.study.searched_with import (
    FITTED,
    ONE_DRAW,
    Differences,
    costs_of_schedules,
    costs_with_fits,
    difference_table,
    differences_between,
    estimates,
    heads_of,
)
from fewstep.report.tables import Cell

ENOUGH = 128


def few_images_suffice(study: Study) -> Claim:
    """Schedules from 128 images against those from the most."""
    said = f"{ENOUGH} images behind the statistics are nearly enough (Watson et al. 2021)."
    parts = study.numbered("images")
    against = _against_most(parts)
    losses = {n: costs_of_schedules(of_n) for n, of_n in against.items()}
    lost = losses.get(ENOUGH)
    if not lost:
        return not_measured(said, study.without(IMAGES))
    most = max(parts)
    small = sum(loss <= NEGLIGIBLE for loss in lost)
    suffice = [n for n in losses if all(max(losses[m], default=0.0) <= NEGLIGIBLE for m in losses if m >= n)]
    fewest = (
        f"From {suffice[0]} images on no difference is above {NEGLIGIBLE}."
        if suffice
        else f"With none of {listing([str(n) for n in losses])} images are all differences at most {NEGLIGIBLE}."
    )
    largest = [f"{number(max(loss), BITS_DECIMALS)} with {n}" for n, loss in losses.items() if loss]
    text = (
        f"Test bits/dim of {SEARCHED} found with {ENOUGH} images minus found with {most}: "
        f"{span(lost, BITS_DECIMALS)} over K and the variance kinds that are not fitted, at most {NEGLIGIBLE} in "
        f"{small} of {len(lost)} cases. "
        f"{fewest} The largest difference by number of images: {listing(largest)}. "
        f"{_fitted(against[ENOUGH])}The table stands under Ablations."
    )
    short = f"at most {number(max(lost), BITS_DECIMALS)} bits/dim lost against {most} images"
    return Claim(said, share_verdict(small, len(lost)), short, [text])


def _fitted(differences: Differences) -> str:
    found = costs_with_fits(differences)
    if not found:
        return ""
    return f"Under optimal variance, which the same images fit, it is {span(found, BITS_DECIMALS)}. "


def _against_most(parts: dict[int, Part]) -> dict[int, Differences]:
    """Every number of images but the most, minus the most."""
    return {n: differences_between(part, parts[max(parts)]) for n, part in parts.items() if n < max(parts)}


def images_section(study: Study) -> list[str]:
    """The differences of every number of images to the most."""
    blocks = study.without(IMAGES)
    parts = study.numbered("images")
    if len(parts) < 2:
        return [*blocks, "Two numbers of images are needed for a comparison."]
    most, rows = max(parts), _against_most(parts)
    caption = (
        f"Bits/dim on {_test_images(parts[most])} test images of {SEARCHED} found with n images minus those found "
        f"with {most}, whose own stand in the last line of each variance ± standard error over images; the "
        f"differences share their test images, so they are known better than that. {ONE_DRAW} {FITTED}"
    )
    table = difference_table(caption, rows)
    lines = []
    for likelihood in parts[most].likelihoods:
        own = estimates(likelihood)
        found = [own.get(head) for head in heads_of(rows)]
        bits = [Cell(with_error(e.mean, e.standard_error, BITS_DECIMALS) if e else NOTHING) for e in found]
        lines += [row for row in table.rows if row[0].text == likelihood.label]
        lines.append([Cell(likelihood.label), Cell(f"{most}: bits/dim"), *bits])
    return [*blocks, markdown_table(table._replace(rows=lines))]


def _test_images(part: Part) -> str:
    return count(sorted({n for likelihood in part.likelihoods for n in likelihood.panel.n_images}))
