"""A run that was killed and started again ends with the same numbers as one that was not, bit for bit."""

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from fewstep.__main__ import main
from fewstep.modules.training import TrainingModule

TINY = [
    "process.T=20",
    "steps=[4]",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "+model.backbone.dropout=0.1",
    "schedule_optimizer=elbo_dp",
    "statistics.images=8",
    "pretrain.iterations=14",
    "pretrain.batch_size=16",
    "pretrain.validate_every=4",
    # Improves at the first validations, then not: stopped after 20 of 40 iterations, for the best weights of 12.
    "finetune.steps=4",
    "finetune.iterations=40",
    "finetune.batch_size=16",
    "finetune.validate_every=4",
    "finetune.patience=2",
    "finetune.learning_rate=3e-2",
    "finetune.ema_decay=0.5",
    "threads=1",
    "stage=finetune",
]
# Kills its own process at the start of an iteration of a stage, as `kill -9` would.
KILLED = """
import os, signal, sys
from pathlib import Path
from fewstep.__main__ import main
from fewstep.modules.training import TrainingModule

stage, iteration = sys.argv.pop(1), int(sys.argv.pop(1))
step = TrainingModule.training_step

def training_step(self, batch, batch_idx):
    if Path(self.trainer.default_root_dir).parent.name == stage and self.global_step == iteration:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

TrainingModule.training_step = training_step
main()
"""


class Killed(BaseException):
    """Stands for a kill where a process of its own would be slow."""


@contextmanager
def unchanged_process() -> Iterator[None]:
    """What a run of the program changes in its process, put back."""
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = root.handlers[:], root.level
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
    root.handlers[:], root.level = handlers, level
    torch.set_num_threads(threads)


def run(outputs: Path, *more: str) -> None:
    with unchanged_process(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fewstep", f"outputs={outputs}", *TINY, *more])
        patch.setenv("HYDRA_FULL_ERROR", "")
        main()


def killed_at(outputs: Path, stage: str, iteration: int) -> None:
    command = [sys.executable, "-c", KILLED, stage, str(iteration), f"outputs={outputs}", *TINY]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def stage_folder(outputs: Path, stage: str) -> Path:
    (folder,) = (outputs / "digits" / stage).iterdir()
    return folder


def numbers(outputs: Path, stage: str) -> dict[str, object]:
    """The bytes of a stage's outputs, and what its record says of the numbers."""
    folder = stage_folder(outputs, stage)
    record = json.loads((folder / "run.json").read_text())
    files = {name: (folder / name).read_bytes() for name in record["outputs"]}
    return files | {"facts": record["facts"], "network_calls": record["network_calls"]}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("unbroken")
    run(outputs)
    return outputs


def test_the_tiny_run_stops_early_for_earlier_weights(unbroken: Path) -> None:
    """What the other tests rely on: an early stop, and a best checkpoint that is not the last."""
    assert json.loads((stage_folder(unbroken, "finetune") / "run.json").read_text())["facts"] == {}


def test_training_killed_twice_ends_as_an_unbroken_one(unbroken: Path, tmp_path: Path) -> None:
    killed_at(tmp_path, "pretrain", 7)
    assert (stage_folder(tmp_path, "pretrain") / "checkpoints" / "last.ckpt").exists()
    killed_at(tmp_path, "finetune", 14)
    assert not (stage_folder(tmp_path, "finetune") / "run.json").exists()
    run(tmp_path)
    for stage in ("pretrain", "finetune"):
        assert numbers(tmp_path, stage) == numbers(unbroken, stage)
