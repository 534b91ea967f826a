"""What statistics on few timesteps save and lose against those on all."""

from fewstep.report.claim import NEGLIGIBLE
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import BITS_DECIMALS, number, span
from fewstep.report.study.ordering import SEARCHED
from fewstep.report.study.parts import AUTO, Study
from fewstep.report.study.searched_with import ONE_DRAW, costs, difference_table, differences_between

FEWER_CALLS = 20
COUNTED = ("timesteps", "timesteps_all", "images")


def auto_section(study: Study) -> list[str]:
    """Bits/dim, timesteps and network calls of statistics on few timesteps, against all."""
    blocks = study.without([AUTO])
    auto = study.get(AUTO)
    if auto is None:
        return blocks
    images = auto.metric("statistics_images")
    n = round(images.mean) if images else 0
    everything = study.numbered("images").get(n)
    told = [*_few_timesteps(auto), *_saved_calls(auto)]
    if everything is None:
        return [*blocks, *bullets(told), f"*Nothing to compare its bits/dim with: images_{n:04d} not run.*"]
    differences = differences_between(auto, everything)
    if costs(differences):
        most = max(costs(differences))
        told.insert(
            0,
            f"Test bits/dim of {SEARCHED} found on few timesteps minus found on all ({everything.name}): "
            f"{span(costs(differences), BITS_DECIMALS)} over variances and K, "
            f"{'at most' if most <= NEGLIGIBLE else 'more than'} the {NEGLIGIBLE} that it may cost.",
        )
    caption = f"Bits/dim on test images, schedules found on few timesteps minus those found on all. {ONE_DRAW}"
    return [*blocks, *bullets(told), markdown_table(difference_table(caption, {n: differences}))]


def _few_timesteps(auto: Part) -> list[str]:
    """How many timesteps were measured, and what the search says that it may have lost."""
    timesteps, everything, images = (auto.metric(f"statistics_{name}") for name in COUNTED)
    sentences = []
    if timesteps:
        of = f" of the grid’s {number(everything.mean, 0)}" if everything else ""
        on = f", on {number(images.mean, 0)} images" if images else ""
        sentences.append(f"Timesteps measured behind the search: {number(timesteps.mean, 0)}{of}{on}.")
    bound = auto.metric("statistics_regret_bound")
    if bound:
        sentences.append(
            "The bound that the search itself gives on what its paths lose is "
            f"{number(bound.mean, BITS_DECIMALS)} bits/dim, on the images behind it."
        )
    return sentences


def _saved_calls(auto: Part) -> list[str]:
    """How many network calls were saved behind the search."""
    few, many = auto.metric("statistics_calls"), auto.metric("statistics_calls_all")
    if few is None or many is None:
        return []
    fold = many.mean / few.mean
    kept = "kept" if fold >= FEWER_CALLS else "missed"
    return [
        f"Network calls behind the search: {number(few.mean, 0)} instead of {number(many.mean, 0)}, "
        f"{number(fold, 1)} times fewer; the aim of {FEWER_CALLS} times fewer is {kept}."
    ]
