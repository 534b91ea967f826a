"""Tables of an ablation: settings and schedule optimizers × K."""

from collections.abc import Callable

from fewstep.report.ablation.quantities import Quantity
from fewstep.report.cost_findings import BASELINE
from fewstep.report.estimates import Estimate
from fewstep.report.paired import paired_difference
from fewstep.report.printing import NOTHING, number, signed
from fewstep.report.tables import Cell, Table

EVERY = "every"


def quantity_table(quantity: Quantity, head: str, label: Callable[[str], str]) -> Table:
    """A row for every setting and schedule optimizer, one alone where the setting does not matter to it.

    Distances have their paired difference to even stride beside them.
    """
    rows = []
    for optimizer in quantity.optimizers:
        values = list(quantity.values)[:1] if quantity.is_constant(optimizer) else list(quantity.values)
        for value in values:
            by_key = quantity.values[value]
            if not any(name == optimizer for name, _ in by_key):
                continue
            told = EVERY if quantity.is_constant(optimizer) else label(value)
            cells = [
                _cell(quantity, by_key.get((optimizer, K)), by_key.get((BASELINE, K)), optimizer)
                for K in quantity.steps
            ]
            rows.append([Cell(optimizer), Cell(told), *cells])
    beside = (
        "; in brackets the difference to even stride at the same setting, paired over seeds, ± half its 95 % "
        "interval"
        if quantity.over_seeds and BASELINE in quantity.optimizers
        else ""
    )
    header = ["schedule optimizer", head, *(f"K = {K}" for K in quantity.steps)]
    return Table(f"{quantity.caption}{beside}. Lower is better.", header, rows, headings=2)


def _cell(quantity: Quantity, estimate: Estimate | None, even: Estimate | None, optimizer: str) -> Cell:
    if estimate is None:
        return Cell(NOTHING)
    error = quantity.error(estimate)
    text = number(estimate.mean, quantity.decimals)
    plus_minus = "" if error is None else number(error, quantity.decimals)
    detail = ""
    if quantity.over_seeds and even is not None and optimizer != BASELINE:
        detail = against(estimate, even, quantity.decimals)
    return Cell(text, plus_minus, detail)


def against(estimate: Estimate, other: Estimate, decimals: int) -> str:
    """`−0.12 ± 0.03`, a paired difference with half its 95 % interval; nothing of rows that share no seeds."""
    if not estimate.values.keys() & other.values.keys():
        return ""
    difference = paired_difference(estimate, other)
    if difference.seeds < 2:
        return signed(difference.mean, decimals)
    return f"{signed(difference.mean, decimals)} ± {number(difference.half_width, decimals)}"
