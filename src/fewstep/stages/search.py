"""Stage search: find the schedules of one schedule optimizer for a model, one file per K."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from fewstep.objectives.base import Objective
from fewstep.results import Result, write_results
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.search.base import Search, check_steps
from fewstep.weights import MODEL, WEIGHTS, load_model

CPU = torch.device("cpu")


def schedule_file(folder: Path, schedule_optimizer: str, K: int) -> Path:
    """Where the schedule of K steps lies in a run's folder."""
    return folder / "schedules" / f"{schedule_optimizer}_k{K:03d}.json"


def found_rows(found: Mapping[str, Any], labels: Mapping[str, Any]) -> list[Result]:
    """A row for everything that a search found out with a standard error, called as the search calls it."""
    measured = {
        metric: fact for metric, fact in found.items() if isinstance(fact, dict) and "standard_error" in fact
    }
    return [Result(metric=metric, **labels, **fact) for metric, fact in measured.items()]


def search(
    folder: Path,
    config: Mapping[str, Any],
    schedule_optimizer: str,
    provenance: Mapping[str, Any],
    objective: Objective | None,
    find: Search,
    statistics: Mapping[str, tuple[Path, Callable[[Path], Any]]],
    weights: Path,
    steps: Sequence[int],
    seed: int,
    labels: Mapping[str, Any] = MappingProxyType({}),
    device: torch.device = CPU,
) -> None:
    """Write a schedule file for every K in `steps`, and what the search measured into `results.csv`, if anything.

    Args:
        folder: the run's folder.
        config: what decides its numbers.
        schedule_optimizer: its name in tables.
        provenance: how the schedules are found, kept in their files.
        objective: what it minimises; None for a fixed rule.
        find: the search.
        statistics: kind → its file and the function that reads it, for every kind that objective or search needs.
        weights: the folder of the model.
        steps: the K's.
        seed: recorded.
        labels: what the rows of results are of, besides `schedule_optimizer` and `steps`.
        device: where the network runs.
    """
    files = {kind: path for kind, (path, _) in statistics.items()}
    with Run(folder, config, {"weights": weights / WEIGHTS, "model": weights / MODEL, **files}) as run:
        if run.complete:
            return
        denoiser = load_model(weights).to(device)
        check_steps(steps, denoiser.process)
        loaded = {kind: load(path) for kind, (path, load) in statistics.items()}
        rows = []
        for K, schedule in find(objective, loaded, denoiser, steps).items():
            found = schedule.provenance.get("found")
            facts = dict(provenance) if found is None else {**provenance, "found": found}
            Schedule(schedule.times, schedule.process, facts).save(schedule_file(folder, schedule_optimizer, K))
            rows += found_rows(found or {}, {**labels, "schedule_optimizer": schedule_optimizer, "steps": K})
        if rows:
            write_results(folder / "results.csv", rows)
        run.finish(network_calls=denoiser.evaluations, device=str(device), seed=seed)
