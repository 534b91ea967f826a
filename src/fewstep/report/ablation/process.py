"""The forward process: whether a searched schedule helps on each, and how good even stride is there."""

from collections.abc import Sequence

from fewstep.report.ablation.plot import Axis
from fewstep.report.ablation.quantities import Quantity, quantities
from fewstep.report.ablation.settings import Setting
from fewstep.report.ablation.sweep import sections
from fewstep.report.content import Content
from fewstep.report.cost_findings import BASELINE
from fewstep.report.paired import paired_difference
from fewstep.report.printing import listing, number, signed
from fewstep.report.rows import FIXED_RULES

ABOUT = (
    "The same backbone, training and samplers on every forward process, a network of its own for each. Even "
    "stride is even in the process’s own clock, so it is another set of noise levels on each: on the cosine "
    "process the angles arctan σ/α are evenly spaced, which is the best rule for data of unit variance. A row "
    "compares with the others of its process; between processes the network differs too."
)


def process(settings: Sequence[Setting]) -> Content:
    """The page of `ablation_process`."""
    found = quantities(settings)
    axis = Axis("process", {setting.position: setting.value for setting in settings}, "categories")
    findings = [
        sentence for quantity in found if quantity.over_seeds for sentence in against_even(quantity, settings)
    ]
    return Content(
        "Ablation: the forward process", ABOUT, findings, sections(settings, found, axis, "process", str)
    )


def against_even(quantity: Quantity, settings: Sequence[Setting]) -> list[str]:
    """Per process the searched rows that are better or worse than even stride beyond their 95 % intervals."""
    sentences = []
    for setting in settings:
        by_key = quantity.values.get(setting.value, {})
        verdicts: dict[str, list[str]] = {"better": [], "worse": []}
        compared = 0
        for (name, K), estimate in by_key.items():
            even = by_key.get((BASELINE, K))
            if name in FIXED_RULES or even is None or not estimate.values.keys() & even.values.keys():
                continue
            compared += 1
            difference = paired_difference(estimate, even)
            if difference.is_claim:
                figure = f"{signed(difference.mean, quantity.decimals)} ± {number(difference.half_width, 2)}"
                word = "better" if difference.mean < 0 else "worse"
                verdicts[word].append(f"{name} at K = {K} ({figure})")
        if compared:
            told = [f"{word} {listing(which)}" for word, which in verdicts.items() if which]
            sentences.append(
                f"{quantity.name}, {setting.value} process: of {compared} searched rows against even stride, "
                f"{'; '.join(told) if told else 'none differs beyond its 95 % interval over 5 paired seeds'}."
            )
    return sentences
