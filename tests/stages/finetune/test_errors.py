"""Restricted fine-tuning: never worse than before on validation, and rows that hold the errors around it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from fewstep.data.digits import Digits
from fewstep.judging.finetuning import times_between
from fewstep.modules.training import ValidationError
from fewstep.process import Process
from fewstep.results import read_results
from fewstep.schedule import Schedule
from fewstep.weights import load_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
CHOSEN = [0, 3, 7, T]
BETWEEN = [1, 5, 9]


def validation_error(folder: Path, indices: list[int]) -> Tensor:
    """Per image, the mean over timesteps of the weighted squared error of the network's output, [20]."""
    validation = ValidationError(Digits().images("validation")[:20], PROCESS.grid[indices], seed=0)
    with torch.inference_mode():
        return validation.per_image(load_model(folder), torch.device("cpu"))


def training_error(folder: Path, indices: list[int]) -> Tensor:
    """The same on as many training images."""
    validation = ValidationError(Digits().images("train")[:20], PROCESS.grid[indices], seed=0)
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


class ThreeDigits(Digits):
    """Three training images, and few of the other splits."""

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
