"""Two devices, gloo on a CPU: what one process finds, each thing once; and a rank that dies ends the job."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from safetensors.numpy import load_file

from fewstep.results import read_results

DEVICES = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
SMALL = [
    "finetune=none",
    "steps=[4]",
    "schedule_optimizer=[elbo_dp,discretization_gradient]",
    "solver=ancestral",
    "evaluation.samples=100",  # one block of 128, for one rank; the judge's 360 real images are three
    "evaluation.sample_steps={ancestral:[4]}",
    "evaluation.sample_seeds=[0]",
    "evaluation.variances=[optimal]",
    "evaluation.sample_metrics=[kid,precision_recall]",
    "pretrain.batch_size=15",  # eight images for one rank and seven for the other
]

# Rank 1 is killed as by `kill -9`, while rank 0 waits for it.
PROGRAM = """
import os, signal
from fewstep.__main__ import main
from fewstep.modules.training import TrainingModule
from fewstep.ranks import rank

step = TrainingModule.training_step

def training_step(self, batch, batch_idx):
    if rank() == 1 and self.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

TrainingModule.training_step = training_step

if __name__ == "__main__":
    main()
"""


def files(outputs: Path, pattern: str) -> dict[str, Path]:
    found = {path.relative_to(outputs).as_posix(): path for path in outputs.glob(pattern)}
    assert found, pattern
    return found


@pytest.fixture(scope="module")
def words(tiny: list[str]) -> list[str]:
    return [word for word in tiny if not word.startswith(("finetune", "schedule_optimizer", "steps"))] + SMALL


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, words: list[str], fewstep: Callable) -> Path:
    outputs = tmp_path_factory.mktemp("one")
    outcome = fewstep(*words, f"outputs={outputs}")
    assert outcome.code in (0, None), outcome.err
    return outputs / "digits"


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory, words: list[str], fewstep: Callable) -> Path:
    """With the weights of the first: those of two devices differ from them in rounding."""
    outputs = tmp_path_factory.mktemp("two")
    copytree(one / "pretrain", outputs / "digits" / "pretrain")
    outcome = fewstep(*words, *DEVICES, f"outputs={outputs}")
    assert outcome.code in (0, None), outcome.err
    return outputs / "digits"


def test_statistics_and_what_follows_from_them_are_equal(one: Path, two: Path) -> None:
    for name, path in files(one, "statistics/*/*.safetensors").items():
        for key, values in load_file(path).items():
            np.testing.assert_allclose(load_file(two / name)[key], values, rtol=1e-10, err_msg=f"{name} {key}")
    for name, path in files(one, "search/*/schedules/*.json").items():
        mine, theirs = (json.loads(found.read_text()) for found in (path, two / name))
        assert mine == theirs


def test_samples_and_their_judge_are_equal(one: Path, two: Path) -> None:
    for pattern in ("evaluate/*/samples/*.safetensors", "features/*/classifier.safetensors"):
        for name, path in files(one, pattern).items():
            assert path.read_bytes() == (two / name).read_bytes(), name
    mine, theirs = (read_results(next(folder.glob("report/*/results.csv"))) for folder in (one, two))
    kept = ~mine.metric.str.contains("seconds")
    assert {"fid_digits", "kid_digits", "recall_digits", "bits_per_dim"} <= {*mine.metric[kept]}
    assert mine.metric.tolist() == theirs.metric.tolist()
    # Square roots of eigenvalues near 0 turn rounding into 1e-8.
    np.testing.assert_allclose(theirs.value[kept], mine.value[kept], rtol=1e-10, atol=1e-7)


def test_everything_is_done_once(one: Path, two: Path) -> None:
    for name, path in files(one, "*/*/run.json").items():
        mine, theirs = (json.loads(found.read_text()) for found in (path, two / name))
        assert mine["network_calls"] == theirs["network_calls"], name
        assert mine["outputs"].keys() == theirs["outputs"].keys(), name
    assert len([path for path in (two / "jobs").iterdir() if path.is_dir()]) == 1


def test_a_rank_that_is_killed_ends_the_job_and_a_sweep_on_torchrun_goes_on(
    one: Path, tmp_path: Path, words: list[str]
) -> None:
    """Training on two devices, cut short and resumed, is training on one but for rounding."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [*words, *DEVICES, "stage=pretrain", f"outputs={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*command: str) -> "subprocess.CompletedProcess[str]":
        command = (sys.executable, *command, *words)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)

    killed = start(str(tmp_path / "program.py"))
    assert killed.returncode == 1
    assert "fewstep: Rank 1 of 2 ended with SIGKILL" in killed.stderr.splitlines()[-1], killed.stderr
    assert not list(tmp_path.glob("digits/pretrain/*/run.json"))
    swept = start("-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "fewstep", "-m", "seed=0,1")
    assert swept.returncode == 0, swept.stderr
    assert len(list(tmp_path.glob("digits/jobs/*/.hydra"))) == 2 + 1  # the killed run's has a name of its own
    (expected,) = one.glob("pretrain/*/weights.safetensors")
    found = load_file(tmp_path / "digits" / "pretrain" / expected.parent.name / "weights.safetensors")
    assert len(list(tmp_path.glob("digits/pretrain/*/run.json"))) == 2
    for name, weights in load_file(expected).items():
        np.testing.assert_allclose(found[name], weights, rtol=1e-3, atol=1e-5, err_msg=name)
