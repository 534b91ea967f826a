"""What finished runs cost: rows of seconds and network calls, one network call being one image at one time."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fewstep.results import Result
from fewstep.run import read_record


class Spent(NamedTuple):
    """A finished run, and what its cost is charged to."""

    stage: str
    schedule_optimizer: str | None
    folder: Path


def cost_rows(runs: Iterable[Spent], labels: Mapping[str, Any]) -> list[Result]:
    """Two rows per (stage, schedule optimizer): `seconds_<stage>` and `network_calls_<stage>`."""
    totals: dict[tuple[str, str | None], tuple[float, int]] = {}
    for spent in runs:
        record = read_record(spent.folder)
        seconds, calls = totals.get((spent.stage, spent.schedule_optimizer), (0.0, 0))
        key = (spent.stage, spent.schedule_optimizer)
        totals[key] = seconds + record["seconds"], calls + record["network_calls"]
    rows = []
    for (stage, schedule_optimizer), (seconds, calls) in totals.items():
        of = dict(labels) | {"schedule_optimizer": schedule_optimizer}
        rows.append(Result(**of, metric=f"seconds_{stage}", value=seconds))
        rows.append(Result(**of, metric=f"network_calls_{stage}", value=calls))
    return rows
