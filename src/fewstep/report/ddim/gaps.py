"""How far the gradient search stays from the dynamic programme's optimum of the same objective."""

from fewstep.report.ddim.networks import Networks
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, percent
from fewstep.report.tables import Cell, Table
from fewstep.search.optimality_gap import LARGE, is_local_minimum

METRIC = "optimality_gap"


def gap_table(networks: Networks) -> list[str]:
    """Gradient-searched schedules × K."""
    gaps = networks.of(METRIC)
    if not gaps:
        return ["No search measured its optimality gap."]
    steps = sorted({K for by_K in gaps.values() for K in by_K})
    rows = []
    for name, by_K in gaps.items():
        cells = []
        for K in steps:
            one = by_K.get(K)
            if one is None:
                cells.append(Cell(NOTHING))
                continue
            cells.append(Cell(percent(one), bold=is_local_minimum(one.mean, one.standard_error)))
        rows.append([Cell(name), *cells])
    caption = (
        "Optimality gap of the gradient search: its snapped schedule’s objective above the dynamic programme’s "
        f"optimum on the grid, on the same samples, ± standard error; bold: above {100 * LARGE:.0f} % and above "
        "twice its error, a local minimum."
    )
    return [markdown_table(Table(caption, ["schedule optimizer", *(f"K = {K}" for K in steps)], rows))]
