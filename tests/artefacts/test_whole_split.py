"""A kind of statistics that takes no network call is of all the split, whatever the settings of the others are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts.statistics import StatisticsSettings, load_statistics, statistics_of
from fewstep.data.digits import Digits
from fewstep.process import Process
from fewstep.run import read_record
from fewstep.statistics.covariance import KIND, DataCovariance

TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)


def no_trainer(**_: Any) -> pl.Trainer:
    raise AssertionError("computed again")


@pytest.fixture
def ask(tmp_path: Path, save_small_model: Callable[..., Path]) -> Callable[..., Path]:
    weights = save_small_model(tmp_path / "weights", Process.cosine(12, 1 / 16))

    def make(settings: StatisticsSettings, trainer: Any = TRAINER) -> Path:
        return statistics_of(KIND, tmp_path, weights, Digits(), {"name": "digits"}, settings, trainer)

    return make


def test_it_is_of_all_images_of_the_split(ask: Callable[..., Path]) -> None:
    path = ask(StatisticsSettings(images=6))
    found = load_statistics(KIND)(path)
    direct = DataCovariance.of(Digits().images("train"))
    assert found.n_images == len(Digits().images("train"))
    torch.testing.assert_close(found.data.eigenvalues, direct.eigenvalues)
    assert read_record(path.parent)["network_calls"] == 0


@pytest.mark.parametrize(
    "settings",
    [{"images": 9}, {"images": "auto"}, {"seed": 3}, {"noise": "fresh"}, {"timesteps": "auto"}],
    ids=str,
)
def test_settings_of_a_network_call_do_not_name_it(settings: dict[str, Any], ask: Callable[..., Path]) -> None:
    path = ask(StatisticsSettings())
    assert ask(StatisticsSettings(**settings), no_trainer) == path


def test_another_split_has_a_folder_of_its_own(ask: Callable[..., Path]) -> None:
    assert ask(StatisticsSettings(split="validation")) != ask(StatisticsSettings())
