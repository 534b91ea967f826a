"""What ablations over one setting share: panels, tables, and for each K the value with the lowest distance."""

from collections.abc import Callable, Sequence

from fewstep.report.ablation.plot import Axis, Curve, Drawing, Level, Point, ablation_plot
from fewstep.report.ablation.quantities import Quantity
from fewstep.report.ablation.settings import Setting, optimizers_of
from fewstep.report.ablation.tables import against, quantity_table
from fewstep.report.content import Heading, Plot
from fewstep.report.cost_findings import BASELINE
from fewstep.report.printing import listing
from fewstep.report.style import Style, styles

Label = Callable[[str], str]


def sections(
    settings: Sequence[Setting], found: Sequence[Quantity], axis: Axis, head: str, label: Label
) -> list[Heading]:
    """Per quantity a plot with a panel for every K, and a table."""
    style = styles(optimizers_of(settings))
    headings = []
    for place, quantity in enumerate(found, start=1):
        drawings = [drawing(quantity, K, settings, style) for K in quantity.steps]
        caption = (
            f"{quantity.name} against {axis.label}; bars ± one standard error over "
            f"{'paired seeds' if quantity.over_seeds else 'test images'}. Lower is better."
        )
        plot = Plot(f"results_{place}", caption, ablation_plot(drawings, axis, columns=3))
        headings.append(Heading(quantity.name, (), [plot], [quantity_table(quantity, head, label)]))
    return headings


def drawing(quantity: Quantity, K: int, settings: Sequence[Setting], style: dict[str, Style]) -> Drawing:
    """The panel of one K: a curve per schedule optimizer, a level for one that the setting does not change."""
    curves, levels = [], []
    for name in quantity.optimizers:
        points = [
            Point(setting.position, estimate.mean, quantity.error(estimate))
            for setting in settings
            if (estimate := quantity.values.get(setting.value, {}).get((name, K))) is not None
        ]
        if points and quantity.is_constant(name):
            levels.append(Level(name, points[0].value, points[0].error, style[name]))
        elif points:
            curves.append(Curve(name, points, style[name]))
    return Drawing(f"K = {K}", quantity.name, curves, levels)


def lowest_findings(quantity: Quantity, optimizer: str, label: Label) -> list[str]:
    """For each K the setting at which a schedule optimizer is lowest, beside even stride there."""
    at: dict[str, list[str]] = {}
    compared = 0
    for K in quantity.steps:
        here = {v: by_key[optimizer, K] for v, by_key in quantity.values.items() if (optimizer, K) in by_key}
        if len(here) < 2:
            continue
        compared = len(here)
        best = min(here, key=lambda value: here[value].mean)
        even = quantity.values[best].get((BASELINE, K)) if quantity.over_seeds else None
        difference = against(here[best], even, quantity.decimals) if even else ""
        beside = f"; minus even stride {difference}" if difference else ""
        at.setdefault(best, []).append(f"K = {K} ({quantity.printed(here[best])}{beside})")
    if not at:
        return []
    told = [f"{label(value)} for {listing(where)}" for value, where in at.items()]
    how = (
        ", differences paired over seeds ± half a 95 % interval; the value is chosen by these very numbers, which "
        "makes its difference look a little better than it is"
        if quantity.over_seeds
        else ""
    )
    return [f"{quantity.name}: {optimizer} is lowest of {compared} values at {'; at '.join(told)}{how}."]
