"""Training seeds: how much every number varies from one training of the network to the next."""

import math
from collections.abc import Sequence

from fewstep.report.ablation.plot import Axis
from fewstep.report.ablation.quantities import Quantity, quantities
from fewstep.report.ablation.settings import Setting
from fewstep.report.ablation.sweep import sections
from fewstep.report.ablation.tables import against
from fewstep.report.content import Content
from fewstep.report.cost_findings import BASELINE
from fewstep.report.estimates import Estimate
from fewstep.report.printing import NOTHING, number, span
from fewstep.report.tables import Cell, Table

ABOUT = (
    "One configuration trained from several seeds, which decide first weights, batches and noise of training; "
    "each network has its own statistics and searched schedules. Samples start from the same noise."
)


def seeds(settings: Sequence[Setting]) -> Content:
    """The page of `ablation_seeds`."""
    found = quantities(settings)
    axis = Axis("training seed", {setting.position: setting.value for setting in settings}, "categories")
    headings = [
        heading._replace(tables=[spread_table(quantity), *heading.tables])
        for quantity, heading in zip(found, sections(settings, found, axis, "training seed", str), strict=True)
    ]
    return Content("Ablation: training seeds", ABOUT, [_finding(quantity) for quantity in found], headings)


def pooled(quantity: Quantity, optimizer: str, K: int) -> Estimate:
    """The mean of every network, by its training seed, as one estimate."""
    found = Estimate()
    for by_key in quantity.values.values():
        if (optimizer, K) in by_key:
            estimate = by_key[optimizer, K]
            for seed in {training for training, _ in estimate.values}:
                values = [value for (training, _), value in estimate.values.items() if training == seed]
                found.values[seed, None] = math.fsum(values) / len(values)
    return found


def spread(estimate: Estimate) -> float | None:
    """Standard deviation over networks; None of a single one."""
    values = list(estimate.values.values())
    if len(values) < 2:
        return None
    return math.sqrt(math.fsum((value - estimate.mean) ** 2 for value in values) / (len(values) - 1))


def spread_table(quantity: Quantity) -> Table:
    """Mean over the networks ± standard deviation between them, and the paired difference to even stride."""
    rows = []
    for name in quantity.optimizers:
        cells = []
        for K in quantity.steps:
            estimate, even = pooled(quantity, name, K), pooled(quantity, BASELINE, K)
            if not estimate.values:
                cells.append(Cell(NOTHING))
                continue
            beside = against(estimate, even, quantity.decimals) if even.values and name != BASELINE else ""
            deviation = spread(estimate)
            text = number(estimate.mean, quantity.decimals)
            cells.append(Cell(text, "" if deviation is None else number(deviation, quantity.decimals), beside))
        rows.append([Cell(name), *cells])
    caption = (
        f"{quantity.name}: mean over {len(quantity.values)} training seeds ± standard deviation between them (not "
        "of the mean); in brackets the difference to even stride on the same network, ± half its 95 % interval "
        "over training seeds. Lower is better."
    )
    return Table(caption, ["schedule optimizer", *(f"K = {K}" for K in quantity.steps)], rows)


def _finding(quantity: Quantity) -> str:
    """How the spread between networks compares with the error within one."""
    keys = [(name, K) for name in quantity.optimizers for K in quantity.steps]
    between = [s for key in keys if (s := spread(pooled(quantity, *key))) is not None]
    within = [
        error
        for by_key in quantity.values.values()
        for estimate in by_key.values()
        if (error := quantity.error(estimate)) is not None
    ]
    decimals = quantity.decimals
    told = span(between, decimals) if between else "not known"
    alone = span(within, decimals) if within else "not known"
    of = "over paired sampling seeds" if quantity.over_seeds else "over images"
    return (
        f"{quantity.name}: the standard deviation between networks is {told} over schedule optimizers and K; the "
        f"standard error of one network’s value {of} is {alone}."
    )
