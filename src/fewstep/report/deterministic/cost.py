"""What every search cost in network calls, statistics included, and after how many images that was paid."""

from fewstep.report.cost_findings import break_evens, network_calls, seconds
from fewstep.report.ddim.networks import Networks
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, number
from fewstep.report.rows import FIXED_RULES
from fewstep.report.tables import Cell, Table


def cost_table(networks: Networks) -> list[str]:
    """Searched rows × K: images after which the search has paid for itself; nothing where no cost is stated."""
    panel = networks.panel
    if panel is None:
        return []
    paid = break_evens(networks.rows, panel)
    rows = []
    for name in networks.distances:
        calls, time = network_calls(networks.rows, name), seconds(networks.rows, name)
        if name not in FIXED_RULES and calls is not None:
            spent = Cell(number(calls, 0)), Cell(NOTHING if time is None else number(time, 0))
            answers = (Cell(paid[name, K].short if (name, K) in paid else NOTHING) for K in networks.steps)
            rows.append([Cell(name), *spent, *answers])
    caption = (
        "**Cost** of the schedules of all K together, statistics included, a mean over networks; then after how "
        "many generated images that is paid against even stride at equal distance, counted in network calls."
    )
    heads = ["schedule optimizer", "network calls", "seconds", *(f"K = {K}" for K in networks.steps)]
    return [markdown_table(Table(caption, heads, rows))] if rows else []
