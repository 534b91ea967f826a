"""Statistics are computed once per (weights, data, kind, images, timesteps, seed), and then only read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts.statistics import StatisticsSettings, load_statistics, statistics_of
from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
Trainers = Callable[..., pl.Trainer]
SETTINGS = StatisticsSettings(images=6, batch_size=4)


@pytest.fixture
def ask(weights: Path, tmp_path: Path, trainer: Trainers) -> Callable[..., Path]:
    """`statistics_of` with everything given; the keyword arguments override."""

    def make(settings: StatisticsSettings = SETTINGS, trainer: Trainers = trainer, **more: Any) -> Path:
        given = {"weights": weights, "dataset_config": {"name": "digits"}} | more
        return statistics_of(
            KIND,
            tmp_path,
            given.pop("weights"),
            Digits(),
            given.pop("dataset_config"),
            settings,
            trainer,
            **given,
        )

    return make


def same(one: DenoisingError, other: DenoisingError) -> bool:
    tensors = ("indices", "error", "decoder_of_process", "decoder_of_error", "fitted_error", "prior")
    facts = ("process", "dimensions", "levels", "split", "fitted_split", "seed", "calls")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors) and all(
        getattr(one, name) == getattr(other, name) for name in facts
    )


def test_it_is_what_the_estimator_measures(
    ask: Callable[..., Path], weights: Path, measure: Callable[..., DenoisingError]
) -> None:
    direct = measure(Digits().images("train")[:6], load_model(weights), batch_size=4)
    assert same(DenoisingError.load(ask()), direct)
    assert same(load_statistics(KIND)(ask()), direct)


def test_the_second_who_asks_computes_nothing(ask: Callable[..., Path], no_trainer: Trainers) -> None:
    path = ask()
    changed = path.stat().st_mtime_ns
    assert ask(trainer=no_trainer) == path
    assert path.stat().st_mtime_ns == changed


def test_one_that_was_cut_short_is_computed(ask: Callable[..., Path], no_trainer: Trainers) -> None:
    with pytest.raises(AssertionError, match="computed again"):
        ask(trainer=no_trainer)
    assert DenoisingError.load(ask()).n_images == 6


def test_the_batch_size_does_not_name_them(ask: Callable[..., Path], no_trainer: Trainers) -> None:
    other = StatisticsSettings(images=6, batch_size=3)
    assert ask(settings=other) == ask(trainer=no_trainer)


@pytest.mark.parametrize(
    "more",
    [
        {"settings": StatisticsSettings(images=5)},
        {"settings": StatisticsSettings(images=6, seed=1)},
        {"settings": StatisticsSettings(images=6, split="validation")},
        {"indices": [3, 7]},
        {"dataset_config": {"name": "digits", "inverted": True}},
    ],
    ids=["images", "seed", "split", "timesteps", "data"],
)
def test_whatever_changes_the_numbers_has_a_folder_of_its_own(
    ask: Callable[..., Path], more: dict[str, Any]
) -> None:
    assert ask(**more) != ask()


def test_other_weights_have_a_folder_of_their_own(
    ask: Callable[..., Path], tmp_path: Path, save_small_model: Callable[..., Path], no_trainer: Trainers
) -> None:
    other = save_small_model(tmp_path / "other", PROCESS, seed=1)
    assert ask(weights=other) != ask()
    # The weights' bytes count, not where they lie.
    again = save_small_model(tmp_path / "again", PROCESS)
    assert ask(weights=again, trainer=no_trainer) == ask()


def test_some_timesteps_are_the_rows_of_all(ask: Callable[..., Path]) -> None:
    everything, some = DenoisingError.load(ask()), DenoisingError.load(ask(indices=[3, 7, 12]))
    assert some.indices.tolist() == [3, 7, 12]
    assert torch.equal(some.error, everything.error[[2, 6, 11]])
    assert torch.equal(some.fitted_error, everything.fitted_error[[2, 6, 11]])


def test_the_optimal_variance_of_another_split_is_the_fitted_one(ask: Callable[..., Path]) -> None:
    fitted = ask()
    judged = DenoisingError.load(ask(settings=StatisticsSettings(split="test", images=6), fitted=fitted))
    assert (judged.split, judged.fitted_split) == ("test", "train")
    assert torch.equal(judged.fitted_error, DenoisingError.load(fitted).error.mean(1) / 64)
    own = DenoisingError.load(ask(settings=StatisticsSettings(split="test", images=6)))
    assert torch.equal(own.error, judged.error)
    assert not torch.equal(own.fitted_error, judged.fitted_error)


def test_all_images_are_those_of_the_split(ask: Callable[..., Path]) -> None:
    path = ask(settings=StatisticsSettings(split="validation", images=None), indices=[T])
    assert DenoisingError.load(path).n_images == 180


def test_fitted_statistics_that_lack_a_timestep_are_named(ask: Callable[..., Path]) -> None:
    fitted = ask(indices=[3])
    with pytest.raises(UserError, match=r"lack the timesteps \[7\]"):
        ask(settings=StatisticsSettings(split="test", images=6), indices=[3, 7], fitted=fitted)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"images": 1}, "at least 2 images; statistics.images is 1"),
        ({"split": "trian"}, "statistics.split is 'trian'; allowed are train, validation, test"),
        ({"batch_size": 0}, "statistics.batch_size is 0, but must be at least 1"),
        ({"seed": -1}, "statistics.seed is -1; allowed are whole numbers from 0"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        StatisticsSettings(**settings)
