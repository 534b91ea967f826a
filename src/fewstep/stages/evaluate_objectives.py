"""Stage evaluate, objectives: the value of every schedule of a model under every objective of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.artefacts.statistics import load_statistics
from fewstep.judging.objective_values import Configured, objective_row
from fewstep.results import write_results
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.weights import MODEL, WEIGHTS, load_model


def evaluate_objectives(
    folder: Path,
    config: Mapping[str, Any],
    objectives: Mapping[str, Configured],
    schedules: Mapping[str, Mapping[int, Path]],
    statistics: Mapping[str, Path],
    labels: Mapping[str, Any],
    seed: int,
    weights: Path,
) -> None:
    """Write a `results.csv` with a row for every objective and schedule.

    Args:
        folder: the run's folder.
        config: what decides its numbers.
        objectives: label → objective.
        schedules: schedule optimizer → K → schedule file.
        statistics: kind → file, of the split that judges and the model that is judged.
        labels: what the rows are of, all but the schedule optimizer.
        seed: recorded.
        weights: the folder of the model, for objectives that run its network.
    """
    inputs = {
        **{f"judging statistics, {kind}": path for kind, path in statistics.items()},
        **{f"schedule of {name}, {K} steps": path for name, by_K in schedules.items() for K, path in by_K.items()},
    }
    runs_network = any(one.objective.value_calls(steps=1).total for one in objectives.values())
    if runs_network:
        inputs |= {"weights": weights / WEIGHTS, "model": weights / MODEL}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        denoiser = load_model(weights) if runs_network else None
        loaded = {kind: load_statistics(kind)(path) for kind, path in statistics.items()}
        rows = [
            objective_row(
                label, one.objective, loaded, schedule, dict(labels) | {"schedule_optimizer": name}, denoiser
            )
            for name, by_K in schedules.items()
            for schedule in map(Schedule.load, by_K.values())
            for label, one in objectives.items()
        ]
        write_results(folder / "results.csv", rows)
        run.finish(network_calls=denoiser.evaluations if denoiser else 0, device="cpu", seed=seed)
