"""Statistics behind a search with `auto` settings: an artefact like the others, that says what it took."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts import search_statistics
from fewstep.artefacts.search_statistics import (
    Purpose,
    load_search_statistics,
    search_statistics_of,
    statistics_rows,
)
from fewstep.artefacts.statistics import StatisticsSettings, load_statistics, statistics_of
from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.run import read_record
from fewstep.statistics.denoising_error import KIND, DenoisingError

T = 80
PROCESS = Process.cosine(T, 1 / 16)
SETTINGS = StatisticsSettings(images="auto", timesteps="auto", regret=0.05, standard_error=0.03)
Trainers = Callable[..., pl.Trainer]
PURPOSE = Purpose(
    [ElboObjective("posterior"), ElboObjective("optimal")], [{"elbo": "posterior"}, {"elbo": "optimal"}], [3, 6]
)


@pytest.fixture
def ask(weights: Path, tmp_path: Path, trainer: Trainers) -> Callable[..., Path]:
    def make(
        settings: StatisticsSettings = SETTINGS, trainer: Trainers = trainer, purpose: Purpose = PURPOSE
    ) -> Path:
        return search_statistics_of(
            KIND, tmp_path, weights, Digits(), {"name": "digits"}, settings, trainer, purpose
        )

    return make


def test_the_file_holds_what_was_measured_and_is_read_for_all_timesteps(ask: Callable[..., Path]) -> None:
    path = ask()
    measured, whole = load_statistics(KIND)(path), load_search_statistics(KIND)(path)
    assert len(measured.indices) < T == len(whole.indices)
    assert torch.equal(whole.error[measured.indices - 1], measured.error)
    record = read_record(path.parent)
    facts = record["facts"]
    assert facts["timesteps"] == len(measured.indices)
    assert (facts["grid_timesteps"], facts["split_images"]) == (T, 1257)
    assert facts["images"] == measured.n_images
    assert 0 < facts["regret_bound"] <= 0.05
    assert facts["standard_error"] <= 0.03
    assert record["network_calls"] >= facts["timesteps"] * facts["images"]


def test_the_second_who_asks_computes_nothing(ask: Callable[..., Path], no_trainer: Trainers) -> None:
    assert ask() == ask(trainer=no_trainer)


def test_one_that_was_cut_short_ends_with_the_same_bits(
    ask: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def cut_short(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measured_rows(*given)

    measured_rows = search_statistics.measured_rows
    with monkeypatch.context() as patch:
        patch.setattr(search_statistics, "measured_rows", cut_short)
        with pytest.raises(KeyboardInterrupt):
            ask()
    resumed = ask().read_bytes()
    for path in tmp_path.glob(f"{KIND}-*/*"):
        path.unlink()
    assert ask().read_bytes() == resumed


@pytest.mark.parametrize(
    "other",
    [
        {"purpose": Purpose(PURPOSE.objectives, PURPOSE.configs, [3, 5])},
        {"purpose": Purpose(PURPOSE.objectives[:1], PURPOSE.configs[:1], [3, 6])},
        {"settings": StatisticsSettings(images=40, timesteps="auto", regret=0.05)},
        {"settings": StatisticsSettings(images="auto", timesteps="auto", regret=0.04, standard_error=0.03)},
        {"settings": StatisticsSettings(images="auto", timesteps="auto", regret=0.05, standard_error=0.2)},
    ],
    ids=["steps", "objectives", "images", "regret", "standard error"],
)
def test_whatever_decides_what_is_measured_has_a_folder_of_its_own(
    ask: Callable[..., Path], other: dict[str, Any]
) -> None:
    assert ask(**other) != ask()


def test_objectives_that_read_something_else_have_no_say(ask: Callable[..., Path], no_trainer: Trainers) -> None:
    elsewhere = ElboObjective("beta", "improved_diffusion")
    purpose = Purpose([*PURPOSE.objectives, elsewhere], [*PURPOSE.configs, {"elbo": "elsewhere"}], [3, 6])
    assert ask() == ask(purpose=purpose, trainer=no_trainer)


def test_images_need_an_objective_in_bits(ask: Callable[..., Path]) -> None:
    purpose = Purpose([MseReweighted()], [{"mse": 1}], [3])
    with pytest.raises(UserError, match=r"images=auto needs an objective in bits/dim"):
        ask(purpose=purpose)
    path = ask(purpose=purpose, settings=StatisticsSettings(images=8, timesteps="auto"))
    assert read_record(path.parent)["facts"]["standard_error"] is None


def test_rows_say_what_was_saved_and_lost(ask: Callable[..., Path]) -> None:
    folder = ask().parent
    record = read_record(folder)
    rows = {row.metric: row for row in statistics_rows([folder], SETTINGS, {"dataset": "digits"})}
    measured = DenoisingError.load(folder / "statistics.safetensors")
    assert rows["statistics_timesteps"].value == len(measured.indices)
    assert rows["statistics_timesteps_all"].value == T
    assert rows["statistics_calls"].value == record["network_calls"]
    assert rows["statistics_calls_all"].value == T * measured.n_images
    assert rows["statistics_regret_bound"].value == record["facts"]["regret_bound"]
    assert rows["statistics_standard_error"].value == record["facts"]["standard_error"]
    assert {row.n_images for row in rows.values()} == {measured.n_images}
    assert statistics_rows([], SETTINGS, {}) == []
    only_timesteps = statistics_rows([folder], StatisticsSettings(timesteps="auto"), {})
    assert "statistics_standard_error" not in {row.metric for row in only_timesteps}


def test_fresh_noise_is_another_artefact(weights: Path, tmp_path: Path, trainer: Trainers) -> None:
    def made(settings: StatisticsSettings) -> Path:
        return statistics_of(
            KIND, tmp_path, weights, Digits(), {"name": "digits"}, settings, trainer, indices=[3, 40]
        )

    common, fresh = made(StatisticsSettings(images=6)), made(StatisticsSettings(images=6, noise="fresh"))
    assert common != fresh
    statistics = [DenoisingError.load(path) for path in (common, fresh)]
    assert [found.noise for found in statistics] == ["common", "fresh"]
    assert not torch.equal(statistics[0].error, statistics[1].error)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"timesteps": "some"}, "statistics.timesteps is 'some'; allowed are all, auto"),
        ({"noise": "white"}, "statistics.noise is 'white'; allowed are common, fresh"),
        ({"images": "many"}, "statistics.images is many, but must be such a number, auto, or null"),
        ({"regret": 0.0}, "statistics.regret is 0.0, but must be positive"),
        ({"standard_error": float("nan")}, "statistics.standard_error is nan, but must be positive"),
        ({"noise": "fresh", "timesteps": "auto"}, "statistics.timesteps must be all, not auto"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        StatisticsSettings(**settings)
