"""Stage search: find the schedules of one schedule optimizer for a model, one file per K."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.objectives.base import Objective
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.search.base import Search, check_steps
from fewstep.weights import MODEL, WEIGHTS, load_model


def schedule_file(folder: Path, schedule_optimizer: str, K: int) -> Path:
    """Where the schedule of K steps lies in a run's folder."""
    return folder / "schedules" / f"{schedule_optimizer}_k{K:03d}.json"


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
) -> None:
    """Write a schedule file for every K in `steps`.

    Args:
        folder: the run's folder.
        config: what decides its numbers.
        schedule_optimizer: its name in tables.
        provenance: how the schedules are found, kept in their files.
        objective: what it minimises; None for a fixed rule.
        find: the search.
        statistics: kind → its file and the function that reads it, for every kind that the objective needs.
        weights: the folder of the model.
        steps: the K's.
        seed: recorded.
    """
    files = {kind: path for kind, (path, _) in statistics.items()}
    with Run(folder, config, {"weights": weights / WEIGHTS, "model": weights / MODEL, **files}) as run:
        if run.complete:
            return
        denoiser = load_model(weights)
        check_steps(steps, denoiser.process)
        loaded = {kind: load(path) for kind, (path, load) in statistics.items()}
        for K, schedule in find(objective, loaded, denoiser, steps).items():
            path = schedule_file(folder, schedule_optimizer, K)
            Schedule(schedule.times, schedule.process, provenance).save(path)
        run.finish(network_calls=denoiser.evaluations, device="cpu", seed=seed)
