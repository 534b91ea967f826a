"""How many images the statistics need: what schedules found with few lose against those found with the most."""

from collections.abc import Sequence

from fewstep.report.ablation.plot import Axis, Curve, Drawing, Point, ablation_plot
from fewstep.report.ablation.quantities import Quantity, likelihood_name, objectives, quantities
from fewstep.report.ablation.settings import Setting, optimizers_of, plain
from fewstep.report.ablation.sweep import sections
from fewstep.report.content import Content, Heading, Plot
from fewstep.report.differences import Difference, bits_difference, seeds_difference
from fewstep.report.estimates import Estimate
from fewstep.report.part import Part
from fewstep.report.printing import NOTHING, listing, number
from fewstep.report.rows import FIXED_RULES
from fewstep.report.style import styles
from fewstep.report.tables import Cell, Table

ABOUT = (
    "Schedules searched on statistics of n training images (the first n, one draw of noise, the same at every "
    "timestep), all judged on the same test images and the same sampling noise. Network, grid and solver are "
    "held. Bits/dim are under a variance that the statistics do not fit, so that only the schedule differs."
)


def estimator(settings: Sequence[Setting]) -> Content:
    """The page of `ablation_estimator`."""
    found = [*quantities(settings), *objectives(settings)]
    axis = Axis("images behind the statistics (log scale)", {s.position: plain(s.value) for s in settings}, "log")
    findings = [sentence for quantity in found for sentence in _findings(quantity, settings)]
    return Content(
        "Ablation: images behind the statistics",
        ABOUT,
        findings,
        [*_losses(found, settings, axis), *sections(settings, found, axis, "images", plain)],
    )


def losses(quantity: Quantity, settings: Sequence[Setting]) -> dict[tuple[str, int], dict[str, Difference]]:
    """(schedule optimizer, K) → number of images → its value minus that of the largest number.

    Errors: paired over sampling seeds; of bits/dim paired over images as far as the differences to the full grid
    tell; otherwise, as of an objective's own value, as if unpaired, which is too large.
    """
    largest = settings[-1]
    found: dict[tuple[str, int], dict[str, Difference]] = {}
    for key, reference in quantity.values.get(largest.value, {}).items():
        if key[0] in FIXED_RULES:
            continue
        for setting in settings[:-1]:
            estimate = quantity.values.get(setting.value, {}).get(key)
            difference = _difference(quantity, key, (setting.part, estimate), (largest.part, reference))
            if difference is not None:
                found.setdefault(key, {})[setting.value] = difference
    return found


def _difference(
    quantity: Quantity, key: tuple[str, int], a: tuple[Part, Estimate | None], b: tuple[Part, Estimate]
) -> Difference | None:
    (part, estimate), (largest, reference) = a, b
    if estimate is None:
        return None
    if quantity.over_seeds:
        shared = estimate.values.keys() & reference.values.keys()
        return seeds_difference(estimate, reference) if shared else None
    if estimate.values == reference.values:
        return Difference(0.0, 0.0)  # the same schedule, judged on the same images
    above = [
        next((one.above_full.get(key) for one in of.likelihoods if quantity.name == likelihood_name(one)), None)
        for of in (part, largest)
    ]
    return bits_difference(estimate, reference, above)


def _losses(found: Sequence[Quantity], settings: Sequence[Setting], axis: Axis) -> list[Heading]:
    if len(settings) < 2:
        return []
    most, style = plain(settings[-1].value), styles(optimizers_of(settings))
    position = {setting.value: setting.position for setting in settings}
    drawings, tables = [], []
    for quantity in found:
        by_key = losses(quantity, settings)
        for K in sorted({K for _, K in by_key}):
            curves = [
                Curve(
                    name,
                    [Point(position[value], one.mean, one.error) for value, one in by_value.items()],
                    style[name],
                )
                for (name, k), by_value in by_key.items()
                if k == K
            ]
            drawings.append(Drawing(f"{quantity.name}, K = {K}", f"change from {most} images", curves))
        if by_key:
            tables.append(_table(quantity, by_key, settings))
    if not drawings:
        return []
    caption = (
        f"What schedules found with fewer images lose against {most}; bars ± one standard error. 0 is no loss."
    )
    plot = Plot("losses", caption, ablation_plot(drawings, axis, columns=2))
    return [Heading(f"What is lost against {most} images", (), [plot], tables)]


def _table(
    quantity: Quantity, by_key: dict[tuple[str, int], dict[str, Difference]], settings: Sequence[Setting]
) -> Table:
    few = settings[:-1]
    rows = [
        [Cell(plain(setting.value)), *(_cell(by_key[key].get(setting.value), quantity.decimals) for key in by_key)]
        for setting in few
    ]
    caption = (
        f"{quantity.name} of schedules found with n images minus those found with {plain(settings[-1].value)} "
        "± standard error; bold: beyond twice that, of distances with at least 5 paired seeds."
    )
    return Table(caption, ["images", *(f"{name}, K = {K}" for name, K in by_key)], rows)


def _cell(difference: Difference | None, decimals: int) -> Cell:
    return Cell(NOTHING) if difference is None else difference.cell(decimals)


def _findings(quantity: Quantity, settings: Sequence[Setting]) -> list[str]:
    """The largest loss for every number of images, and from how many on none is beyond twice its error."""
    by_key = losses(quantity, settings)
    if not by_key:
        return []
    of = {
        setting.value: [by_value[setting.value] for by_value in by_key.values() if setting.value in by_value]
        for setting in settings[:-1]
    }
    worst = [
        f"{number(max(one.mean for one in lost), quantity.decimals)} with {plain(value)}"
        for value, lost in of.items()
        if lost
    ]
    enough = _enough(of)
    told = (
        f"from {plain(enough)} images on none is beyond twice its standard error"
        if enough
        else "with every number of images some loss is beyond twice its standard error"
    )
    return [f"{quantity.name}: the largest loss over schedule optimizers and K is {listing(worst)}; {told}."]


def _enough(of: dict[str, list[Difference]]) -> str | None:
    """The fewest images from which on no loss is a claim."""
    enough = None
    for value, lost in reversed(of.items()):
        if any(one.is_claim and one.mean > 0 for one in lost):
            break
        enough = value
    return enough
