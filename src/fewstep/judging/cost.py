"""What finished runs cost: rows of seconds and network calls, one network call being one image at one time."""

from collections.abc import Collection, Iterable, Mapping
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


def schedules_cost_rows(behind: Mapping[str, Collection[Path]], labels: Mapping[str, Any]) -> list[Result]:
    """What the schedules of each schedule optimizer cost: `schedules_seconds` and `schedules_network_calls`.

    Unlike the rows of stages these overlap: statistics that several schedule optimizers read are charged to each
    of them, as to somebody who uses that one alone.

    Args:
        behind: schedule optimizer → the folders of its search and of every run that this search reads.
        labels: what the rows are of.
    """
    rows = []
    for schedule_optimizer, folders in behind.items():
        records = [read_record(folder) for folder in dict.fromkeys(folders)]
        of = dict(labels) | {"schedule_optimizer": schedule_optimizer}
        seconds, calls = (sum(record[key] for record in records) for key in ("seconds", "network_calls"))
        rows.append(Result(**of, metric="schedules_seconds", value=seconds))
        rows.append(Result(**of, metric="schedules_network_calls", value=calls))
    return rows


def tuning_cost_rows(
    tuned: Iterable[tuple[str, int, Collection[Path]]], labels: Mapping[str, Any]
) -> list[Result]:
    """What every tuned model (schedule optimizer, K, runs) cost: `tuning_seconds` and `tuning_network_calls`.

    A network call in training is a forward and a backward pass.
    """
    rows = []
    for schedule_optimizer, steps, folders in tuned:
        records = [read_record(folder) for folder in folders]
        of = dict(labels) | {"schedule_optimizer": schedule_optimizer, "steps": steps, "finetuned": True}
        seconds, calls = (sum(record[key] for record in records) for key in ("seconds", "network_calls"))
        rows.append(Result(**of, metric="tuning_seconds", value=seconds))
        rows.append(Result(**of, metric="tuning_network_calls", value=calls))
    return rows
