"""Jobs side by side in processes of their own: they share what is common, and one that is killed costs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soak.command import difference, outcome

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture(scope="module")
def small(tiny: list[str]) -> list[str]:
    """Two jobs that need one network, and one of them statistics."""
    words = [word for word in tiny if not word.startswith(("finetune", "schedule_optimizer"))]
    return ["-m", "stage=search", "finetune=none", "schedule_optimizer=even,elbo_dp", *words]


def dataset(spent: Path) -> list[str]:
    return [
        "dataset._target_=tests.cli.mortal.Mortal",
        f"+dataset.spent={spent}",
        "+dataset.deadly=2",  # in pretraining; the first time all that is given is checked
    ]


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory, fewstep: Callable[..., Any], small: list[str]) -> Path:
    """The outputs of the jobs one after the other; nobody dies."""
    outputs = tmp_path_factory.mktemp("one_by_one")
    (outputs.parent / "spent").touch()
    assert fewstep(*small, *dataset(outputs.parent / "spent"), f"outputs={outputs}").code == 0
    return outputs


def test_killed_beside_each_other_and_started_again(
    tmp_path: Path, fewstep: Callable[..., Any], small: list[str], one_by_one: Path
) -> None:
    spent = one_by_one.parent / "spent"
    spent.unlink()
    command = (*small, *JOBLIB, *dataset(spent), f"outputs={tmp_path}")
    killed = fewstep(*command)
    assert killed.code == 1
    assert "unexpectedly terminated" in killed.err
    assert "It was cut short." in killed.err
    assert spent.exists()
    assert not list(tmp_path.glob("digits/pretrain/*/run.json"))
    again = fewstep(*command)
    assert again.code == 0, again.err
    assert difference(outcome(one_by_one), outcome(tmp_path)) is None


def test_submitted(tmp_path: Path, fewstep: Callable[..., Any], small: list[str], one_by_one: Path) -> None:
    spent = one_by_one.parent / "spent"
    spent.touch()
    submitted = fewstep(*small, "hydra/launcher=submitit_local", *dataset(spent), f"outputs={tmp_path}")
    assert submitted.code == 0, submitted.err
    assert difference(outcome(one_by_one), outcome(tmp_path)) is None


def test_a_failed_job_beside_another_is_told(
    tmp_path: Path, fewstep: Callable[..., Any], small: list[str], one_by_one: Path
) -> None:
    outcome = fewstep(*small, *JOBLIB, "steps=[2],[99]", "schedule_optimizer=even", f"outputs={tmp_path}")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("  steps=[99]: Each number of steps")
    calls = [json.loads(path.read_text())["network_calls"] for path in tmp_path.rglob("run.json")]
    assert len(calls) == 2
