"""Where schedules put their nodes, in noise levels σ/α and in angles arctan σ/α."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from fewstep.report.ddim.networks import Networks
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, number
from fewstep.report.rows import distinct, node_log_snrs, optimizers
from fewstep.report.tables import Cell, Table

Nodes = Mapping[str, Sequence[float]]  # schedule optimizer → noise levels of t_1 … t_K, ascending


def noise_levels(networks: Networks, steps: int) -> dict[str, list[float]]:
    """The nodes of every untuned schedule, geometric means over networks."""
    rows = [row for row in networks.rows if not row.finetuned]
    found: dict[str, list[float]] = {}
    for line, by_seeds in node_log_snrs(rows).get(steps, {}).items():
        columns = zip(*by_seeds.values(), strict=True)
        found.setdefault(line.optimizer, sorted(math.exp(-fmean(column) / 2) for column in columns))
    return found


def node_table(networks: Networks, steps: int) -> list[str]:
    """Schedule optimizers × nodes."""
    nodes = noise_levels(networks, steps)
    if not nodes:
        return []
    order = distinct([*optimizers(networks.rows), *nodes])
    rows = [
        [Cell(name), *(Cell(_level(value)) for value in nodes[name]), Cell(_angles(nodes[name]))]
        for name in order
        if name in nodes
    ]
    caption = (
        f"Noise levels σ/α of the nodes t_1 … t_{steps} at K = {steps} (geometric means over networks), and the "
        "least and greatest step in angle, arctan σ/α, in degrees, between neighbours."
    )
    heads = [f"t_{i}" for i in range(1, steps + 1)]
    return [markdown_table(Table(caption, ["schedule optimizer", *heads, "steps in angle"], rows))]


def _level(value: float) -> str:
    return number(value, 3 if value < 1 else 2 if value < 100 else 0)


def angle_steps(levels: Sequence[float]) -> list[float]:
    """Degrees between arctan σ/α of neighbours."""
    angles = [math.degrees(math.atan(level)) for level in levels]
    return [b - a for a, b in itertools.pairwise(angles)]


def _angles(levels: Sequence[float]) -> str:
    steps = angle_steps(levels)
    return f"{number(min(steps), 1)} to {number(max(steps), 1)}" if steps else NOTHING


def moved(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest |log| of the ratio of two schedules’ nodes, all but the last, which is the process’s end."""
    return max((abs(math.log(x / y)) for x, y in zip(a[:-1], b[:-1], strict=True)), default=0.0)
