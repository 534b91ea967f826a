"""How far few steps lead from what many make of the same noise."""

from fewstep.report.ddim.networks import Networks
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, count, number
from fewstep.report.tables import Cell, Table

METRICS = {
    "distance_pixels": ("pixels", "root mean square over pixels, on the scale from −1 to 1", 4),
    "distance_features": ("features", "Euclidean, in the judge’s features", 3),
}


def fine_step_tables(networks: Networks) -> list[str]:
    """A table for pixels and one for features."""
    tables = [_table(networks, metric) for metric in METRICS]
    drawn = [markdown_table(table) for table in tables if table is not None]
    return drawn or ["The distance to the fine-step output was not measured."]


def _table(networks: Networks, metric: str) -> Table | None:
    rows = networks.of(metric)
    if not rows:
        return None
    word, unit, decimals = METRICS[metric]
    steps = sorted({K for by_K in rows.values() for K in by_K})
    lowest = {K: min(by_K[K].mean for by_K in rows.values() if K in by_K) for K in steps}
    cells = []
    for name, by_K in rows.items():
        line = [Cell(name)]
        for K in steps:
            one = by_K.get(K)
            error = one.standard_error if one else None
            line.append(
                Cell(NOTHING)
                if one is None
                else Cell(
                    number(one.mean, decimals),
                    "" if error is None else number(error, decimals),
                    bold=one.mean == lowest[K],
                )
            )
        cells.append(line)
    images = sorted({n for by_K in rows.values() for one in by_K.values() for n in one.n_images})
    seeds = sorted(
        {seed for by_K in rows.values() for one in by_K.values() for _, seed in one.values if seed is not None}
    )
    caption = (
        f"**Distance in {word}** ({unit}) to the output of many DDIM steps of the untuned network from the same "
        f"noise, for tuned rows too: mean over {count(images)} images a network, sampling seed "
        f"{', '.join(map(str, seeds))}, ± standard error over images and networks; bold: the lowest of a column."
    )
    return Table(caption, ["schedule optimizer", *(f"K = {K}" for K in steps)], cells)
