"""Fine-tuning of a small model that has learned nothing for a schedule of three steps on few digits."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.modules.loggers import NoLogging
from fewstep.objectives.base import Objective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.stages.finetune import Finetuning, finetune
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model, save_model

PROCESS = Process.cosine(12, 1 / 16)
CHOSEN = [0, 3, 7, 12]
TRAINER = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False)


class FewDigits(Digits):
    """Digits with small splits."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[: 64 if split == "train" else 20]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, small_unet: Callable[..., UNet]) -> Path:
    """A model that has not learned anything yet."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_model(folder, Denoiser(small_unet(), PROCESS, "v"), (1, 8, 8), 17)
    return folder


@pytest.fixture(scope="module")
def measured(weights: Path, measure: Callable[..., DenoisingError]) -> DenoisingError:
    return measure(FewDigits().images("train")[:8], load_model(weights))


@pytest.fixture
def tune(weights: Path, tmp_path: Path, measured: DenoisingError) -> Callable[..., Path]:
    """Fine-tune for the schedule CHOSEN; returns the run's folder."""
    path = tmp_path / "schedule.json"
    Schedule.on_grid(CHOSEN, PROCESS).save(path)

    def make(
        dataset: Digits | None = None,
        objective: Objective | None = None,
        schedule: Path = path,
        name: str = "run",
        **settings: Any,
    ) -> Path:
        few = {"steps": 3, "iterations": 6, "batch_size": 16, "warmup": 1, "validate_every": 2, "ema_decay": 0.5}
        finetune(
            tmp_path / name,
            {"settings": repr(settings)},
            Finetuning(**few | settings),
            schedule,
            objective,
            lambda: {KIND: measured},
            weights,
            dataset or FewDigits(),
            TRAINER,
            NoLogging(),
            0,
            {"schedule_optimizer": "even", "steps": 3},
        )
        return tmp_path / name

    return make
