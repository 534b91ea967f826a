"""Fréchet distances of every process, and their differences to the baselines."""

from collections.abc import Sequence

from fewstep.report.ddim.networks import BASELINES, Against, ByRow, Networks
from fewstep.report.estimates import Estimate
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, count, fid_decimals, number, signed
from fewstep.report.rows import TUNED
from fewstep.report.tables import Cell, Table


def distance_tables(networks: Networks) -> list[str]:
    """The table of means, and one of differences for every baseline."""
    if networks.panel is None:
        return ["No samples were judged."]
    tables = [mean_table(networks), *(difference_table(networks, baseline) for baseline in BASELINES)]
    return [markdown_table(table) for table in tables if table.rows]


def mean_table(networks: Networks) -> Table:
    """Every row’s mean over seeds, K by K, and the floor."""
    panel = networks.panel
    assert panel is not None
    decimals = fid_decimals([panel])
    lowest = {
        tuned: {K: min(_at(networks.distances, K, tuned), default=None) for K in networks.steps}
        for tuned in (False, True)
    }
    rows = []
    for name, by_K in networks.distances.items():
        best = lowest[name.endswith(TUNED)]
        rows.append(
            [Cell(name), *(_mean(by_K[K], best[K], decimals) if K in by_K else Cell(NOTHING) for K in best)]
        )
    floor = ""
    if panel.reference:
        n = count(sorted(panel.reference.n_images))
        rows.append(
            [
                Cell(f"floor: {n} real images"),
                *[Cell(number(panel.reference.mean, decimals))] * len(networks.steps),
            ]
        )
        floor = " The floor has its own number of images, and the distance falls with that number: it is no bound."
    seeds = len({seed for _, seed in panel.seeds})
    caption = (
        f"{panel.metric}, {panel.solver}, {count(panel.n_images)} samples a row and seed: mean over {seeds} "
        f"sampling seeds and {several(len(networks.seeds), 'network')}; in brackets the mean of each network and "
        "the standard deviation over sampling seeds within a network. Bold: the lowest untuned and the lowest "
        f"tuned mean of a column, which alone is no claim.{floor}"
    )
    return Table(caption, ["schedule optimizer", *(f"K = {K}" for K in networks.steps)], rows)


def several(n: int, noun: str) -> str:
    """`1 network`, `2 networks`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _at(distances: ByRow, K: int, tuned: bool) -> list[float]:
    return [by_K[K].mean for name, by_K in distances.items() if K in by_K and name.endswith(TUNED) == tuned]


def _mean(estimate: Estimate, lowest: float | None, decimals: int) -> Cell:
    by_network: dict[int | None, list[float]] = {}
    for (seed, _), value in estimate.values.items():
        by_network.setdefault(seed, []).append(value)
    means = [sum(values) / len(values) for values in by_network.values()]
    squares = [(value - mean) ** 2 for mean, of in zip(means, by_network.values(), strict=True) for value in of]
    free = len(squares) - len(means)
    spread = f"; sd {number((sum(squares) / free) ** 0.5, decimals)}" if free > 0 else ""
    detail = ", ".join(number(mean, decimals) for mean in means) + spread
    return Cell(number(estimate.mean, decimals), detail=detail, bold=estimate.mean == lowest)


def difference_table(networks: Networks, baseline: str) -> Table:
    """Every row minus a baseline, K by K, with its interval."""
    panel = networks.panel
    assert panel is not None
    decimals = fid_decimals([panel])
    rows = []
    for name in networks.distances:
        found = {K: networks.against(name, baseline, K) for K in networks.steps}
        if name != baseline and any(found.values()):
            rows.append([Cell(name), *(difference_cell(one, decimals) for one in found.values())])
    caption = (
        f"**Minus {baseline}** (untuned), negative where the row is better: mean ± half the 95 % interval over "
        "paired sampling seeds; in brackets the difference of each network (training seed "
        f"{', '.join(map(str, networks.seeds))}). Bold: the interval excludes zero and every network has the same "
        "sign."
    )
    return Table(caption, ["schedule optimizer", *(f"K = {K}" for K in networks.steps)], rows)


def difference_cell(one: Against | None, decimals: int) -> Cell:
    """`**−0.31 ± 0.04** (−0.30, −0.32)`."""
    if one is None:
        return Cell(NOTHING)
    detail = ", ".join(signed(by.mean, decimals) for by in one.by_seed.values())
    return Cell(difference_text(one, decimals), detail=detail, bold=one.says != "unclear")


def difference_text(one: Against, decimals: int) -> str:
    """`−0.31 ± 0.04`, half the 95 % interval; without it where one seed has none."""
    mean = signed(one.difference.mean, decimals)
    return mean if one.difference.seeds < 2 else f"{mean} ± {number(one.difference.half_width, decimals)}"


def at_steps(found: Sequence[Against], decimals: int) -> str:
    """`K = 4: −0.31 ± 0.04, K = 6: …`, or that there is none."""
    return ", ".join(f"K = {one.steps}: {difference_text(one, decimals)}" for one in found) or "none"
