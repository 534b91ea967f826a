"""Fréchet distances: a table for every network."""

from collections.abc import Sequence

from fewstep.report.differences import seeds_error
from fewstep.report.estimates import Estimate
from fewstep.report.markdown import markdown_table
from fewstep.report.part import Distance, Part
from fewstep.report.printing import NOTHING, count, fid_decimals, listing, number, span
from fewstep.report.rows import distinct, optimizers
from fewstep.report.study.parts import NETWORKS, Study
from fewstep.report.tables import Cell, Table

Column = tuple[Distance, int]


def columns_of(distances: Sequence[Distance]) -> list[Column]:
    """Every solver and K."""
    return [(distance, K) for distance in distances for K in distance.panel.steps]


def heading(column: Column) -> str:
    """What a table calls a solver and K."""
    distance, K = column
    calls = distance.panel.nfe.get(K, K)
    return f"{distance.solver}, K = {K}" + (f", {calls} calls" if calls != K else "")


def distance_table(network: Part) -> Table:
    """Schedule optimizers × solvers and K's, means over seeds, and the floor."""
    columns = columns_of(network.distances)
    panels = [distance.panel for distance in network.distances]
    decimals = fid_decimals(panels)
    names = [
        name for name in optimizers(network.rows) if any(name in distance.estimates for distance, _ in columns)
    ]
    estimates = {
        (name, number): distance.estimates.get(name, {}).get(K)
        for name in names
        for number, (distance, K) in enumerate(columns)
    }
    lowest = {
        column: min(e.mean for name in names if (e := estimates[name, column]) is not None)
        for column in range(len(columns))
    }
    rows = [[Cell(name), *(_cell(estimates[name, c], lowest[c], decimals) for c in lowest)] for name in names]
    floor = next((panel.reference for panel in panels if panel.reference), None)
    if floor:
        name = f"floor: {count(sorted(floor.n_images))} real images"
        rows.append([Cell(name), *(_cell(floor, None, decimals) for _ in columns)])
    return Table(_caption(network, floor), ["schedule optimizer", *map(heading, columns)], rows)


def _cell(estimate: Estimate | None, lowest: float | None, decimals: int) -> Cell:
    if estimate is None:
        return Cell(NOTHING)
    error = seeds_error(estimate)
    bold = estimate.mean == lowest
    return Cell(number(estimate.mean, decimals), "" if error is None else number(error, decimals), bold=bold)


def _caption(network: Part, floor: Estimate | None) -> str:
    panels = [distance.panel for distance in network.distances]
    samples = count(sorted({n for panel in panels for n in panel.n_images}))
    metric = listing(distinct(panel.metric for panel in panels))
    seeds = span([len(panel.seeds) for panel in panels], 0)
    what = f"{metric}, {samples} samples a row and seed, mean over {seeds} seeds ± standard error over seeds"
    bound = (
        " The floor has its own number of images, and a Fréchet distance falls with that number, so it is no "
        "bound."
        if floor
        else ""
    )
    return f"{what}; bold: the lowest mean of a column, which alone is no claim.{bound}"


def distance_section(study: Study) -> list[str]:
    """A table for every network with samples."""
    blocks = study.without(NETWORKS)
    for network in study.networks:
        if network.distances:
            blocks += [f"### {network.name}", markdown_table(distance_table(network))]
    return blocks if any(network.distances for network in study.networks) else [*blocks, "No part has samples."]
