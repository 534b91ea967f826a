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
    "stage=finetune",
    "process.T=20",
    "steps=[4]",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "model.backbone.channel_mult=[1]",
    "model.backbone.attention_resolutions=[]",
    "+model.backbone.dropout=0.1",
    "schedule_optimizer=even",
    "pretrain.iterations=14",
    "pretrain.batch_size=16",
    "pretrain.validate_every=4",
    "finetune.steps=4",
    "finetune.iterations=40",
    "finetune.batch_size=16",
    "finetune.learning_rate=3e-3",
    "finetune.validate_every=4",
    "finetune.patience=2",
    "threads=1",
]
# Validation errors of fine-tuning after so many iterations: the best after 16, stopped after 24 of 40.
SCRIPT = {4: 3.0, 8: 2.0, 12: 2.5, 16: 1.0, 20: 1.5, 24: 1.2}
BEST, STOPPED = 16, 24

# A process of its own that is killed at the start of an iteration of a stage, as by `kill -9`.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from fewstep.__main__ import main
from fewstep.modules.training import TrainingModule

stage, iteration, script = sys.argv.pop(1), int(sys.argv.pop(1)), json.loads(sys.argv.pop(1))
step, error = TrainingModule.training_step, TrainingModule._error

def training_step(self, batch, batch_idx):
    if Path(self.trainer.default_root_dir).parent.name == stage and self.global_step == iteration:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

def scripted(self, validation):
    return script[str(self.global_step)] if self.off else error(self, validation)

TrainingModule.training_step, TrainingModule._error = training_step, scripted
main()
"""


class Killed(BaseException):
    """Stands for the kill, but for one of a process of its own: that takes long."""


@contextmanager
def in_this_process(outputs: Path) -> Iterator[pytest.MonkeyPatch]:
    """The program's surroundings; afterwards all is as before."""
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = root.handlers[:], root.level
    error = TrainingModule._error

    def scripted(module: TrainingModule, validation: object) -> float:
        return SCRIPT[module.global_step] if module.off else error(module, validation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fewstep", f"outputs={outputs}", *TINY])
        patch.setenv("HYDRA_FULL_ERROR", "")
        patch.setattr(TrainingModule, "_error", scripted)
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield patch
        finally:
            root.handlers[:], root.level = handlers, level
            torch.set_num_threads(threads)


def run(outputs: Path) -> None:
    with in_this_process(outputs):
        main()


def run_killed(outputs: Path, stage: str, iteration: int) -> None:
    words = [stage, str(iteration), json.dumps(SCRIPT), f"outputs={outputs}", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def folder_of(outputs: Path, stage: str) -> Path:
    (folder,) = (outputs / "digits" / stage).iterdir()
    return folder


def numbers(outputs: Path, stage: str) -> dict[str, object]:
    """The bytes of a stage's outputs, and what its record says of the numbers."""
    folder = folder_of(outputs, stage)
    record = json.loads((folder / "run.json").read_text())
    files = {name: (folder / name).read_bytes() for name in record["outputs"]}
    return files | {"facts": record["facts"], "network_calls": record["network_calls"]}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("unbroken")
    run(outputs)
    return outputs


@pytest.fixture
def to_be_tuned(unbroken: Path, tmp_path: Path) -> Path:
    """The unbroken outputs, without their fine-tuning."""
    shutil.copytree(unbroken, tmp_path / "outputs")
    shutil.rmtree(tmp_path / "outputs" / "digits" / "finetune")
    return tmp_path / "outputs"


def test_the_unbroken_run_stops_early_and_keeps_earlier_weights(unbroken: Path) -> None:
    """What the other tests rely on."""
    folder = folder_of(unbroken, "finetune")
    assert json.loads((folder / "run.json").read_text())["facts"] == {"improved": True, "iterations": STOPPED}
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=False)
    assert best["global_step"] == BEST


def test_training_that_was_killed_ends_as_if_it_had_not(unbroken: Path, tmp_path: Path) -> None:
    with in_this_process(tmp_path) as patch:
        in_training(13)(patch)  # after the last checkpoint, and validation, of 14 iterations
        with pytest.raises(Killed):
            main()
    assert [path.name for path in (folder_of(tmp_path, "pretrain") / "checkpoints").iterdir()] == ["last.ckpt"]
    run_killed(tmp_path, "finetune", 14)
    assert not (folder_of(tmp_path, "finetune") / "run.json").exists()
    run(tmp_path)
    for stage in ("pretrain", "finetune"):
        assert numbers(tmp_path, stage) == numbers(unbroken, stage)


def in_training(iteration: int) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        step = TrainingModule.training_step

        def training_step(module: TrainingModule, *arguments: object) -> torch.Tensor:
            if module.global_step == iteration:
                raise Killed
            return step(module, *arguments)

        patch.setattr(TrainingModule, "training_step", training_step)

    return arrange


def in_validation(iteration: int) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        step = TrainingModule.validation_step

        def validation_step(module: TrainingModule, *arguments: object) -> None:
            if module.global_step == iteration:
                raise Killed
            step(module, *arguments)

        patch.setattr(TrainingModule, "validation_step", validation_step)

    return arrange


def after_saving(name: str, iteration: int) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        save = ModelCheckpoint._save_checkpoint

        def save_checkpoint(callback: ModelCheckpoint, trainer, path: str) -> None:
            save(callback, trainer, path)
            if Path(path).stem == name and trainer.global_step == iteration:
                raise Killed

        patch.setattr(ModelCheckpoint, "_save_checkpoint", save_checkpoint)

    return arrange


MOMENTS = {
    "while patience runs": in_training(21),
    "in the best validation": in_validation(BEST),
    "after the best weights were saved, before their score": after_saving("best", BEST),
    "after training had stopped": after_saving("last", STOPPED),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_early_stopping_and_the_best_weights_survive_a_kill(
    moment: str, unbroken: Path, to_be_tuned: Path
) -> None:
    with in_this_process(to_be_tuned) as patch:
        MOMENTS[moment](patch)
        with pytest.raises(Killed):
            main()
    run(to_be_tuned)
    assert numbers(to_be_tuned, "finetune") == numbers(unbroken, "finetune")
