"""The values of objectives in a run: a row for every objective and schedule, as the objective says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.judging.objective_values import Configured
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.results import read_results
from fewstep.schedule import Schedule
from fewstep.stages.evaluate_objectives import evaluate_objectives
from fewstep.statistics.denoising_error import KIND, DenoisingError

PROCESS = Process.cosine(12, 1 / 16)
PATHS = {"a": {2: [0, 4, 12], 3: [0, 3, 6, 12]}, "b": {2: [0, 5, 12]}}


def test_every_schedule_under_every_objective(
    tmp_path: Path,
    perfect_denoiser: Callable[..., Denoiser],
    measure: Callable[..., DenoisingError],
    grey_images: Callable[..., Tensor],
) -> None:
    judged = measure(grey_images(4), perfect_denoiser(PROCESS, 0.3), split="test")
    judged.save(tmp_path / "judged")
    schedules: dict[str, dict[int, Path]] = {}
    for name, paths in PATHS.items():
        for K, path in paths.items():
            schedules.setdefault(name, {})[K] = tmp_path / f"{name}{K}.json"
            Schedule.on_grid(path, PROCESS).save(schedules[name][K])
    objectives = {"elbo": Configured(ElboObjective("beta"), {}), "mse_reweighted": Configured(MseReweighted(), {})}
    labels = {"dataset": "grey", "train_seed": 3, "finetuned": False}
    evaluate_objectives(
        tmp_path / "run", {}, objectives, schedules, {KIND: tmp_path / "judged"}, labels, 0, tmp_path
    )
    rows = read_results(tmp_path / "run" / "results.csv").set_index(["schedule_optimizer", "steps", "metric"])
    assert len(rows) == 6
    for (name, K, metric), row in rows.iterrows():
        objective = objectives[metric.removeprefix("objective_")].objective
        schedule = Schedule.on_grid(PATHS[name][K], PROCESS)
        assert row.value == pytest.approx(objective.value({KIND: judged}, schedule), rel=1e-12)
        assert (row.train_seed, row.n_images, row.split) == (3, 4, "test")
