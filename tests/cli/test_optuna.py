"""`experiment=digits_learning_rate` at tiny size: optuna is told validation errors, and starting again skips."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewstep.results import read_results

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")


def test_the_best_trial_is_the_one_of_the_least_validation_error(
    tmp_path: Path, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    words = [word for word in tiny if not word.startswith(("schedule_optimizer", "finetune"))]
    small = ["finetune.steps=4", "finetune.iterations=4", "finetune.validate_every=2", "finetune.batch_size=16"]
    command = (
        "experiment=digits_learning_rate",
        "hydra.sweeper.n_trials=3",
        *words,
        *small,
        f"outputs={tmp_path}",
    )
    assert fewstep(*command).code == 0
    tables = [read_results(path) for path in tmp_path.glob("digits/finetune/*/results.csv")]
    changes = [table.value[table.metric == "validation_change_on_schedule"].item() for table in tables]
    assert len(changes) == 3
    best = yaml.safe_load((tmp_path / "digits" / "jobs" / "optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(min(changes))
    assert len(list(tmp_path.glob("digits/pretrain/*/run.json"))) == 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    assert fewstep(*command).code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")} == before


def test_a_metric_that_was_not_measured(tmp_path: Path, fewstep: Callable[..., Any], tiny: list[str]) -> None:
    outcome = fewstep("stage=pretrain", "returns=fid_digits", *tiny, f"outputs={tmp_path}")
    assert outcome.err.splitlines()[-1] == (
        "fewstep: returns is 'fid_digits', but stage=pretrain measured no such metric; it measured nothing."
    )
