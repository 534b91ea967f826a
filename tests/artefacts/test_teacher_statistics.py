"""Statistics of a teacher as artefacts: its own settings name them, those of images and timesteps do not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts.statistics import StatisticsSettings, Teacher, load_statistics, statistics_of
from fewstep.data.digits import Digits
from fewstep.process import Process
from fewstep.run import read_record
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.fine_nodes import fine_schedule
from fewstep.statistics.teacher_trajectories import KIND
from fewstep.weights import load_model

TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)
TEACHER = Teacher(trajectories=5, steps=9)


def no_trainer(**_: Any) -> pl.Trainer:
    raise AssertionError("computed again")


@pytest.fixture
def ask(tmp_path: Path, save_small_model: Callable[..., Path]) -> Callable[..., Path]:
    weights = save_small_model(tmp_path / "weights", Process.cosine(12, 1 / 16))

    def make(settings: StatisticsSettings, trainer: Any = TRAINER, **given: Any) -> Path:
        return statistics_of(KIND, tmp_path, weights, Digits(), {"name": "digits"}, settings, trainer, **given)

    return make


def test_the_trajectories_are_those_of_the_saved_model(ask: Callable[..., Path], tmp_path: Path) -> None:
    path = ask(StatisticsSettings(teacher=TEACHER))
    teacher, denoiser = load_statistics(KIND)(path), load_model(tmp_path / "weights")
    assert teacher.D.shape == (9, 5, 1, 8, 8)
    teacher.require(denoiser)
    with torch.inference_mode():
        *_, last = Ddim()(denoiser, fine_schedule(denoiser.process, 17, 9), teacher.noise)
    torch.testing.assert_close(teacher.D[0].double(), last.x, rtol=1e-4, atol=1e-5)
    assert read_record(path.parent)["network_calls"] == 5 * 9


@pytest.mark.parametrize("settings", [{"images": 9}, {"images": "auto"}, {"noise": "fresh"}], ids=str)
def test_settings_of_other_kinds_do_not_name_it(settings: dict[str, Any], ask: Callable[..., Path]) -> None:
    path = ask(StatisticsSettings(teacher=TEACHER))
    again = ask(StatisticsSettings(teacher=TEACHER, **settings), no_trainer, indices=[3, 12], fitted=path)
    assert again == path


@pytest.mark.parametrize(
    "other",
    [{"teacher": Teacher(5, 8)}, {"teacher": Teacher(4, 9)}, {"seed": 1}, {"split": "test"}],
    ids=["steps", "trajectories", "seed", "split"],
)
def test_its_own_settings_name_it(other: dict[str, Any], ask: Callable[..., Path]) -> None:
    given = {"teacher": TEACHER, **other}
    assert ask(StatisticsSettings(teacher=TEACHER)) != ask(StatisticsSettings(**given))
