"""Restricted fine-tuning: never worse than before on validation, and only where the schedule goes."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.modules.loggers import NoLogging
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.objectives.base import Objective
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.results import read_results
from fewstep.schedule import Schedule
from fewstep.stages.finetune import Finetuning, finetune, times_between
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.trainable.all import AllWeights
from fewstep.trainable.base import Trainable
from fewstep.trainable.last_layers import LastLayers
from fewstep.trainable.low_rank import LowRank
from fewstep.weights import load_model, save_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
CHOSEN = [0, 3, 7, T]
BETWEEN = [1, 5, 9]
TRAINER = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False)


class FewDigits(Digits):
    """Digits with small splits."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[: 64 if split == "train" else 20]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has not learned anything yet."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = UNet(
        image_size=8,
        in_channels=1,
        out_channels=1,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=[1],
        attention_resolutions=[],
        num_heads=1,
        num_groups=2,
    )
    save_model(folder, Denoiser(network, PROCESS, "v"), (1, 8, 8), 17)
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


def validation_error(folder: Path, indices: list[int]) -> Tensor:
    """Per image, the mean over timesteps of the weighted squared error of the network's output, [20]."""
    validation = ValidationError(FewDigits().images("validation"), PROCESS.grid[indices], seed=0)
    with torch.inference_mode():
        return validation.per_image(load_model(folder), torch.device("cpu"))


def training_error(folder: Path, indices: list[int]) -> Tensor:
    """The same on as many training images."""
    validation = ValidationError(FewDigits().images("train")[:20], PROCESS.grid[indices], seed=0)
    with torch.inference_mode():
        return validation.per_image(load_model(folder), torch.device("cpu"))


def results(folder: Path) -> Mapping[tuple[str, bool], pd.Series]:
    """(metric, finetuned) → row."""
    rows = read_results(folder / "results.csv")
    found = {(row.metric, bool(row.finetuned)): row for _, row in rows.iterrows()}
    assert len(found) == len(rows)
    return found


def errors(folder: Path) -> Mapping[tuple[str, bool], pd.Series]:
    """Validation errors: ("on" or "off", finetuned) → row."""
    return {
        (metric.split("_")[2], tuned): row
        for (metric, tuned), row in results(folder).items()
        if metric.startswith("validation_error_")
    }


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())["facts"]
    return found


def test_tuning_lowers_the_error_at_the_chosen_timesteps(tune: Callable[..., Path], weights: Path) -> None:
    folder = tune(learning_rate=3e-3)
    before, after = (validation_error(where, CHOSEN[1:]).mean() for where in (weights, folder))
    assert after < before
    assert facts(folder) == {"improved": True, "iterations": 6}


@pytest.mark.parametrize("learning_rate", [1e-3, 0.1, 3.0])
def test_tuning_never_ends_worse_than_it_began(
    learning_rate: float, tune: Callable[..., Path], weights: Path
) -> None:
    folder = tune(learning_rate=learning_rate)
    before, after = (validation_error(where, CHOSEN[1:]).mean() for where in (weights, folder))
    assert after <= before


def test_weights_stay_untuned_where_nothing_improves(tune: Callable[..., Path], weights: Path) -> None:
    """Steps so long that the first one spoils the network."""
    folder = tune(learning_rate=100.0, iterations=40, validate_every=1, patience=3)
    assert facts(folder)["improved"] is False
    assert (folder / "weights.safetensors").read_bytes() == (weights / "weights.safetensors").read_bytes()
    rows = errors(folder)
    for where in ("on", "off"):
        assert rows[where, True].value == rows[where, False].value


def test_rows_hold_the_validation_errors_around_it(tune: Callable[..., Path], weights: Path) -> None:
    folder = tune(learning_rate=3e-3)
    rows = errors(folder)
    assert rows.keys() == {(where, tuned) for where in ("on", "off") for tuned in (False, True)}
    for (where, tuned), row in rows.items():
        expected = validation_error(folder if tuned else weights, CHOSEN[1:] if where == "on" else BETWEEN)
        assert row.value == pytest.approx(expected.mean().item(), rel=1e-6)
        assert row.standard_error == pytest.approx(expected.std().item() / 20**0.5, rel=1e-6)
        assert (row.split, row.n_images, row.schedule_optimizer, row.steps) == ("validation", 20, "even", 3)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return pytest.approx(values.mean().item(), rel=1e-6), pytest.approx(values.std().item() / 20**0.5, rel=1e-6)


def test_rows_hold_the_paired_changes_of_both_errors(tune: Callable[..., Path], weights: Path) -> None:
    folder = tune(learning_rate=3e-3)
    rows = results(folder)
    for word, error, split in (
        ("validation", validation_error, "validation"),
        ("training", training_error, "train"),
    ):
        for where, indices in (("on", CHOSEN[1:]), ("off", BETWEEN)):
            before, after = error(weights, indices), error(folder, indices)
            row = rows[f"{word}_error_{where}_schedule", True]
            assert (row.value, row.standard_error) == mean_and_error(after)
            row = rows[f"{word}_change_{where}_schedule", True]
            assert (row.value, row.standard_error) == mean_and_error(after - before)
            assert (row.split, row.n_images) == (split, 20)


def test_the_best_iteration_is_that_of_the_lowest_validation(tune: Callable[..., Path]) -> None:
    folder = tune(learning_rate=3e-3)
    rows = results(folder)
    assert rows["last_iteration", True].value == 6
    assert rows["best_iteration", True].value == 6  # a network that knows nothing learns at every step
    for where in ("on", "off"):
        assert rows[f"last_validation_error_{where}_schedule", True].value == errors(folder)[where, True].value
        assert rows[f"validation_change_after_best_{where}_schedule", True].value == 0


class ThreeDigits(FewDigits):
    """Three training images."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[: 3 if split == "train" else 20]


def test_learning_three_images_by_heart_is_told_by_the_two_errors(
    tune: Callable[..., Path], weights: Path
) -> None:
    """After the best validation the training error falls on while the validation error rises."""
    folder = tune(ThreeDigits(), learning_rate=0.01, iterations=120, validate_every=10, patience=12)
    rows = results(folder)
    best, last = rows["best_iteration", True].value, rows["last_iteration", True].value
    assert 0 < best < last == 120
    validation = rows["validation_change_after_best_on_schedule", True]
    training = rows["training_change_after_best_on_schedule", True]
    assert validation.value > 2 * validation.standard_error
    assert training.value < -2 * training.standard_error
    assert (validation.n_images, training.n_images) == (20, 3)
    last_error = rows["last_validation_error_on_schedule", True].value
    assert last_error == pytest.approx(errors(folder)["on", True].value + validation.value)
    before, after = (validation_error(where, CHOSEN[1:]).mean() for where in (weights, folder))
    assert after < before  # what is kept is the best, not the last


# Which weights are trained.

TRAINABLE: dict[str, Trainable] = {
    "all": AllWeights(),
    "last_layers": LastLayers(2, ["out", "output_blocks.*"]),
    "low_rank": LowRank(2, 2.0),
}
LAST = ("backbone.out.", "backbone.output_blocks.1.")


@pytest.mark.parametrize("name", TRAINABLE)
def test_only_the_chosen_weights_are_tuned(name: str, tune: Callable[..., Path], weights: Path) -> None:
    folder = tune(learning_rate=0.01, trainable=TRAINABLE[name])
    untuned, tuned = (load_model(where).state_dict() for where in (weights, folder))
    assert tuned.keys() == untuned.keys()
    changed = {key for key, value in tuned.items() if not torch.equal(value, untuned[key])}
    matrices = {key for key, value in tuned.items() if value.ndim > 1}
    expected = {
        "all": set(tuned),
        "last_layers": {key for key in tuned if key.startswith(LAST)},
        "low_rank": matrices,
    }[name]
    # Behind a convolution that is still zero nothing has a slope in the first iteration, but later all have.
    assert changed == expected
    if name == "low_rank":
        for key in matrices:
            difference = (tuned[key].double() - untuned[key].double()).flatten(1)
            assert torch.linalg.matrix_rank(difference, atol=1e-6) <= 2
    assert facts(folder)["improved"] is True


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_number_of_trained_parameters_is_told(name: str, tune: Callable[..., Path], weights: Path) -> None:
    rows, tensors = results(tune(trainable=TRAINABLE[name])), load_model(weights).state_dict()
    everything = sum(tensor.numel() for tensor in tensors.values())
    shapes = [tensor.flatten(1).shape for tensor in tensors.values() if tensor.ndim > 1]
    expected = {
        "all": everything,
        "last_layers": sum(tensor.numel() for key, tensor in tensors.items() if key.startswith(LAST)),
        "low_rank": sum(min(2, out, into) * (out + into) for out, into in shapes),
    }[name]
    assert rows["parameters", True].value == everything
    assert rows["trained_parameters", True].value == expected


@pytest.mark.parametrize("name", TRAINABLE)
def test_tuning_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    name: str, tune: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"trainable": TRAINABLE[name], "learning_rate": 3e-3, "iterations": 8}
    unbroken = tune(**few, name="unbroken")
    with monkeypatch.context() as patch:
        step = TrainingModule.training_step

        def killed(module: TrainingModule, *arguments: Any) -> Tensor:
            if module.global_step == 5:
                raise KeyboardInterrupt
            return step(module, *arguments)

        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            tune(**few, name="broken")
    broken = tune(**few, name="broken")
    for file in ("weights.safetensors", "results.csv"):
        assert (broken / file).read_bytes() == (unbroken / file).read_bytes()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The times of every batch."""
    batch, seen = TrainingBatches.batch, []

    def spied(batches: TrainingBatches, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
        made = batch(batches, iteration)
        seen.append(batches.times.draw(made[1]).t)
        return made

    monkeypatch.setattr(TrainingBatches, "batch", spied)
    return seen


def share(drawn: list[Tensor]) -> Tensor:
    """How often each chosen timestep was drawn; fails where another was."""
    indices = (torch.cat(drawn) * T).round().long()
    counts = torch.bincount(indices, minlength=T + 1)
    assert counts.sum() == counts[CHOSEN[1:]].sum()
    return counts[CHOSEN[1:]] / counts.sum()


@pytest.mark.parametrize("times", ["uniform", "objective"])
def test_a_fixed_rule_draws_the_chosen_timesteps_alike(
    times: str, tune: Callable[..., Path], drawn: list[Tensor]
) -> None:
    tune(objective=None, times=times, batch_size=30)
    assert share(drawn).tolist() == pytest.approx([1 / 3] * 3, abs=0.034)


def test_an_objective_draws_them_by_its_weights(
    tune: Callable[..., Path], drawn: list[Tensor], measured: DenoisingError, weights: Path
) -> None:
    objective = ElboObjective("beta")
    tune(objective=objective, times="objective", batch_size=50)
    slope = objective.time_weights({KIND: measured}, Schedule.on_grid(CHOSEN, PROCESS))
    expected = slope / load_model(weights).loss_weight(PROCESS.grid[CHOSEN[1:]])
    assert share(drawn).tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=0.021)
    assert expected.max() > 2 * expected.min()  # not uniform


def test_an_objective_may_be_told_to_draw_them_alike(tune: Callable[..., Path], drawn: list[Tensor]) -> None:
    tune(objective=ElboObjective("beta"), times="uniform", batch_size=30)
    assert share(drawn).tolist() == pytest.approx([1 / 3] * 3, abs=0.034)


def test_a_finished_run_is_skipped(tune: Callable[..., Path], drawn: list[Tensor]) -> None:
    folder = tune()
    before, batches = (folder / "weights.safetensors").stat().st_mtime_ns, len(drawn)
    tune()
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    assert len(drawn) == batches


def test_a_schedule_of_another_process_is_refused(tune: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    Schedule.on_grid(CHOSEN, Process.cosine(T)).save(path)
    with pytest.raises(UserError, match=r"made for Process\.cosine\(T=12, smallest_noise_level=None\)"):
        tune(schedule=path, name="other")
    assert not (tmp_path / "other" / "weights.safetensors").exists()


def test_a_loss_that_turns_nan_leaves_no_weights(tune: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The training loss is (nan|inf) at iteration"):
        tune(learning_rate=1e35)
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_times_between_are_off_the_schedule() -> None:
    assert (times_between(Schedule.on_grid(CHOSEN, PROCESS)) * T).round().tolist() == BETWEEN
    assert len(times_between(Schedule(PROCESS.grid, PROCESS))) == 0
    # Between index 1 and clean data there is no timestep.
    assert (times_between(Schedule.on_grid([0, 1, T], PROCESS)) * T).round().tolist() == [6]


def test_a_schedule_without_timesteps_between_has_no_error_off_it(
    tune: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "everything.json"
    Schedule(PROCESS.grid, PROCESS).save(path)
    assert {where for where, _ in errors(tune(schedule=path, name="everything"))} == {"on"}


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"times": "often"}, "'often'; allowed are objective, uniform"),
        ({"steps": 0}, "finetune.steps is 0; allowed are one or several numbers of at least 1"),
        ({"steps": [4, 0]}, r"finetune.steps is \[4, 0\]; allowed are one or several numbers of at least 1"),
        ({"steps": []}, r"finetune.steps is \[\]; allowed are one or several numbers of at least 1"),
        ({"steps": [4, 8, 4]}, r"finetune.steps is \[4, 8, 4\]; each may be given once"),
        ({"schedule_optimizer": ["even", "even"]}, r"\['even', 'even'\]; each may be given once"),
        ({"patience": 0}, "finetune.patience is 0, but must be at least 1"),
        ({"iterations": 0}, "finetune.iterations is 0, but must be at least 1"),
        ({"batch_size": -1}, "finetune.batch_size is -1, but must be at least 1"),
        ({"validate_every": 0}, "finetune.validate_every is 0, but must be at least 1"),
        ({"warmup": -1}, "finetune.warmup is -1, but must be at least 0"),
        ({"learning_rate": 0.0}, "finetune.learning_rate is 0.0, but must be positive and finite"),
        ({"learning_rate": float("inf")}, "finetune.learning_rate is inf"),
        ({"ema_decay": 1.0}, r"finetune.ema_decay is 1.0, but must lie in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Finetuning(**settings)


@pytest.mark.parametrize(
    "given, steps, names",
    [
        ({}, (8,), ()),
        ({"steps": 4, "schedule_optimizer": "even"}, (4,), ("even",)),
        ({"steps": [4, 16], "schedule_optimizer": ["even", "elbo_dp"]}, (4, 16), ("even", "elbo_dp")),
    ],
)
def test_one_schedule_or_several(given: dict[str, Any], steps: tuple[int, ...], names: tuple[str, ...]) -> None:
    assert (Finetuning(**given).all_steps, Finetuning(**given).schedule_optimizers) == (steps, names)
