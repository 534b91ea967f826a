"""An experiment's folder as its stages leave it, without their work, and jobs that show it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewstep.config import Config
from fewstep.results import Result, write_results
from fewstep.run import Run
from tests.dashboard.rows import OF, judged, rounds

FINGERPRINT = "0123456789"
Made = dict[str, Path]


def finished(
    folder: Path, inputs: Mapping[str, Path], *files: str, rows: list[Result] | None = None, pictures: int = 0
) -> Path:
    """A complete run: its files hold their own names."""
    with Run(folder, {}, inputs) as run:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        if rows:
            write_results(folder / "results.csv", rows)
        if pictures:
            (folder / "samples").mkdir()
            images = torch.linspace(-1, 1, pictures * 64, dtype=torch.float64).reshape(pictures, 1, 8, 8)
            save_file({"images": images}, folder / "samples" / "ddim_k004.safetensors")
        run.finish(network_calls=3, device="cpu", seed=0)
    return folder


@pytest.fixture
def make_experiment() -> Callable[[Path], Made]:
    """(folder) → what each stage left in it: weights, statistics, a schedule, tuned weights, metrics, a report."""

    def make(root: Path) -> Made:
        def named(stage: str, label: str) -> Path:
            return root / stage / f"{label}-seed0-{FINGERPRINT}"

        made: Made = {}
        checkpoint = root.parent / "checkpoint.pt"
        checkpoint.write_text("somebody else's")
        files = ("weights.safetensors", "model.yaml")
        made["weights"] = finished(named("pretrain", "cosine"), {"checkpoint": checkpoint}, *files)
        weights = {"weights": made["weights"] / "weights.safetensors"}
        made["statistics"] = finished(named("statistics", "denoising_error"), weights, "statistics.safetensors")
        statistics = {"denoising_error": made["statistics"] / "statistics.safetensors"}
        schedule = "schedules/elbo_dp_k004.json"
        made["schedule"] = finished(named("search", "elbo_dp"), weights | statistics, schedule)
        read = weights | {"schedule": made["schedule"] / schedule}
        made["tuned_weights"] = finished(named("finetune", "elbo_dp-k004"), read, *files)
        made["rounds"] = finished(named("finetune", "elbo_dp-k004-rounds2"), read, rows=rounds())
        tuned = {**read, "weights": made["tuned_weights"] / "weights.safetensors"}
        made["metrics"] = finished(
            named("evaluate", "elbo_dp-k004-tuned"), tuned, rows=judged("elbo_dp", tuned=True), pictures=3
        )
        floor = Result(**OF, metric="fid_digits", value=0.5, schedule_optimizer="data", n_images=360)
        made["reference"] = finished(named("evaluate", "reference"), weights, rows=[floor])
        behind = {f"results {i}": made[name] / "results.csv" for i, name in enumerate(("metrics", "reference"))}
        seconds = Result(**OF, metric="seconds_pretrain", value=12.0)
        everything = [*judged("elbo_dp", tuned=True), floor, seconds]
        made["report"] = finished(root / "report" / f"seed0-{FINGERPRINT}", behind, rows=everything)
        return made

    return make


@pytest.fixture
def experiment(tmp_path: Path, make_experiment: Callable[[Path], Made]) -> Made:
    return make_experiment(tmp_path / "digits")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """(changes) → the configuration of a job."""

    def make(**changes: Any) -> Config:
        settings: dict[str, Any] = {
            "stage": "report", "name": "digits", "part": None, "run_name": None, "seed": 0,
            "outputs": str(tmp_path),
            "steps": [4, 8], "variance": "optimal", "decoder": "additive", "levels": 17, "data_std": 0.7,
            "threads": None, "model": {}, "pretrain": {"iterations": 40},
            "dataset": {"_target_": "fewstep.data.digits.Digits"},
            "process": {"_target_": "fewstep.process.Process.cosine"},
            "statistics": {"split": "train"}, "solver": {"heun": {}},
            "schedule_optimizer": {"elbo_dp": {"search": {}}}, "finetune": None,
            "evaluation": {}, "features": {}, "trainer": {}, "logger": {"mode": "offline"},
            "returns": None, "report": {},
        }  # fmt: skip
        return Config(**settings | changes)

    return make
