"""How far few steps lead from what many make of the same noise."""

from collections.abc import Mapping, Sequence

from fewstep.report.estimates import Estimate
from fewstep.report.printing import NOTHING, count, number
from fewstep.report.rows import SOLVERS, by_name, distinct
from fewstep.report.tables import Cell, Table
from fewstep.results import Result

METRICS = {
    "distance_pixels": ("pixels", "root mean square over pixels, on the scale from −1 to 1", 4),
    "distance_features": ("features", "Euclidean, in the judge’s features", 3),
}


def fine_step_tables(rows: Sequence[Result]) -> list[Table]:
    """A table for pixels and one for features, of every solver that was compared."""
    return [
        fine_step_table(metric, solver, by_name([row for row in chosen if row.solver == solver]))
        for metric in METRICS
        for chosen in [[row for row in rows if row.metric == metric]]
        for solver in distinct((row.solver for row in chosen), SOLVERS)
    ]


def fine_step_table(metric: str, solver: str, rows: Mapping[str, Mapping[int, Estimate]]) -> Table:
    """The distances of one metric: schedule optimizers × K, the lowest of each K bold."""
    word, unit, decimals = METRICS[metric]
    steps = sorted({K for by_K in rows.values() for K in by_K})
    lowest = {K: min(by_K[K].mean for by_K in rows.values() if K in by_K) for K in steps}
    cells = [
        [Cell(name), *(_cell(by_K.get(K), decimals, lowest[K]) for K in steps)] for name, by_K in rows.items()
    ]
    everything = [one for by_K in rows.values() for one in by_K.values()]
    images = sorted({n for one in everything for n in one.n_images})
    seeds = sorted({seed for one in everything for _, seed in one.values if seed is not None})
    caption = (
        f"Distance in {word} ({unit}) from samples of {solver} to the output of many DDIM steps of the untuned "
        f"network from the same noise, for tuned rows too: mean over {count(images)} images a network, sampling "
        f"seed {', '.join(map(str, seeds))}, ± standard error over images and networks; bold: the lowest of a "
        "column."
    )
    return Table(caption, ["schedule optimizer", *(f"K = {K}" for K in steps)], cells)


def _cell(one: Estimate | None, decimals: int, lowest: float) -> Cell:
    if one is None:
        return Cell(NOTHING)
    error = one.standard_error
    text = "" if error is None else number(error, decimals)
    return Cell(number(one.mean, decimals), text, bold=one.mean == lowest)
