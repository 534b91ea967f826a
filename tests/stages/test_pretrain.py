"""Pretraining: the averaged weights are kept, whole, and are a function of the seed."""

import json
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
from fewstep.errors import UserError
from fewstep.losses.base import Loss
from fewstep.losses.hybrid import HybridLoss
from fewstep.losses.simple import SimpleLoss
from fewstep.losses.vlb import VlbLoss
from fewstep.modules.loggers import CURVES, CsvLogging, Logging, NoLogging, read_curves
from fewstep.modules.training import ValidationError
from fewstep.process import Process
from fewstep.stages.pretrain import Pretraining, pretrain, validation_times
from fewstep.weights import load_model, read_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
SETTINGS = Pretraining(iterations=20, batch_size=16, validate_every=10, warmup=1)
TRAINER = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False)
Make, Train = Callable[..., Denoiser], Callable[..., Path]


class FewDigits(Digits):
    """Digits with small splits."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[: 64 if split == "train" else 20]


class Empty(Digits):
    """No digits."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[:0]


@pytest.fixture(scope="module")
def make_denoiser(small_unet: Callable[..., UNet]) -> Make:
    def make(out_channels: int = 1) -> Denoiser:
        return Denoiser(small_unet(out_channels=out_channels), PROCESS, "v")

    return make


@pytest.fixture(scope="module")
def train(make_denoiser: Make) -> Train:
    """(folder, …) → the folder, with what pretraining leaves."""

    def run(
        folder: Path,
        seed: int = 0,
        settings: Pretraining = SETTINGS,
        dataset: Any = None,
        logging: Logging | None = None,
        out_channels: int = 1,
    ) -> Path:
        make = partial(make_denoiser, out_channels)
        dataset, logging = dataset or FewDigits(), logging or NoLogging()
        pretrain(folder, {"seed": seed}, make, dataset, settings, TRAINER, logging, seed)
        return folder

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, train: Train) -> Path:
    return train(tmp_path_factory.mktemp("run") / "trained")


def error(denoiser: Denoiser) -> float:
    images, times = FewDigits().images("validation"), validation_times(denoiser)
    validation = ValidationError(images, times, seed=0)
    with torch.inference_mode():
        return validation.per_image(denoiser, torch.device("cpu")).mean().item()


def test_what_is_kept_is_the_whole_model_and_its_own_validation_error(folder: Path) -> None:
    denoiser = load_model(folder)
    assert denoiser.process == PROCESS
    assert denoiser.parameterisation.name == "v"
    model = read_model(folder)
    assert (model["shape"], model["levels"]) == ([1, 8, 8], 17)
    stated = json.loads((folder / "run.json").read_text())["facts"]["validation_error"]
    assert stated == pytest.approx(error(denoiser), rel=1e-6)


def test_training_learns(folder: Path, make_denoiser: Make) -> None:
    torch.manual_seed(0)
    assert error(load_model(folder)) < 0.9 * error(make_denoiser().eval())


def bound(denoiser: Denoiser) -> float:
    """The whole grid's, without its prior, bits/dim on validation images."""
    validation = ValidationError(FewDigits().images("validation"), PROCESS.grid[1:], 0, VlbLoss(17), PROCESS.grid)
    with torch.inference_mode():
        return validation.per_image(denoiser, torch.device("cpu")).mean().item()


@pytest.mark.parametrize("loss", [HybridLoss(17), VlbLoss(17)], ids=lambda loss: loss.name)
def test_losses_that_train_a_variance_lower_the_bound(
    loss: Loss, tmp_path: Path, make_denoiser: Make, train: Train
) -> None:
    settings = Pretraining(
        iterations=80, batch_size=32, validate_every=80, warmup=1, learning_rate=4e-3, loss=loss
    )
    folder = train(tmp_path / "trained", settings=settings, out_channels=2)
    torch.manual_seed(0)
    trained, untrained = bound(load_model(folder)), bound(make_denoiser(2).eval())
    assert trained < 0.9 * untrained
    if loss.name == "vlb":  # on a grid as small as this validation covers all of it
        stated = json.loads((folder / "run.json").read_text())["facts"]["validation_error"]
        assert stated == pytest.approx(trained, rel=1e-6)


def test_the_hybrid_trains_the_variance_where_the_simple_loss_does_not(tmp_path: Path, train: Train) -> None:
    """The simple loss leaves f at its start, one half, for every image and pixel."""
    fractions = {}
    for loss in (SimpleLoss(), HybridLoss(17)):
        settings = Pretraining(iterations=20, batch_size=16, validate_every=20, warmup=1, loss=loss)
        denoiser = load_model(train(tmp_path / loss.name, settings=settings, out_channels=2))
        fractions[loss.name] = denoiser(FewDigits().images("validation"), PROCESS.grid[6]).fraction
    assert bool((fractions["simple"] == 0.5).all())
    assert bool((fractions["hybrid"] != 0.5).all())


def test_a_network_without_a_variance_is_told_so(tmp_path: Path, train: Train) -> None:
    settings = Pretraining(iterations=2, batch_size=16, loss=HybridLoss(17))
    with pytest.raises(UserError, match="loss 'hybrid' trains a learned variance"):
        train(tmp_path / "run", settings=settings)


def test_the_record_counts_the_network_calls_of_training(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    assert record["network_calls"] == 20 * 16
    assert record["seed"] == 0
    assert {*record["outputs"]} == {"weights.safetensors", "model.yaml"}  # checkpoints are no outputs


def test_weights_are_a_function_of_the_seed(folder: Path, tmp_path: Path, train: Train) -> None:
    torch.manual_seed(99)
    weights = (folder / "weights.safetensors").read_bytes()
    assert (train(tmp_path / "again") / "weights.safetensors").read_bytes() == weights
    assert (train(tmp_path / "other", seed=1) / "weights.safetensors").read_bytes() != weights


def test_a_denoiser_in_evaluation_mode_is_trained_with_its_dropout(
    tmp_path: Path, small_unet: Callable[..., UNet]
) -> None:
    settings, weights = Pretraining(iterations=2, batch_size=8, validate_every=2, warmup=1), []
    for training in (True, False):
        folder = tmp_path / str(training)

        def make(training: bool = training) -> Denoiser:
            return Denoiser(small_unet(dropout=0.5), PROCESS, "v").train(training)

        pretrain(folder, {"seed": 0}, make, FewDigits(), settings, TRAINER, NoLogging(), 0)
        weights.append((folder / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_validating_at_other_times_changes_no_weight(folder: Path, tmp_path: Path, train: Train) -> None:
    often = Pretraining(iterations=20, batch_size=16, validate_every=7, warmup=1)
    weights = (train(tmp_path / "often", settings=often) / "weights.safetensors").read_bytes()
    assert weights == (folder / "weights.safetensors").read_bytes()


def test_curves_are_written_where_they_are_wanted(tmp_path: Path, train: Train) -> None:
    curves = read_curves(train(tmp_path / "logged", logging=CsvLogging()) / CURVES)
    assert {"train/loss", "validation/on"} <= {metric for _, values in curves for metric in values}


def test_a_finished_run_is_skipped(folder: Path, train: Train) -> None:
    changed = (folder / "weights.safetensors").stat().st_mtime_ns
    train(folder, dataset=Empty())
    assert (folder / "weights.safetensors").stat().st_mtime_ns == changed


def test_another_configuration_is_refused(folder: Path, train: Train) -> None:
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        train(folder, seed=1)


def test_no_images_are_refused(tmp_path: Path, train: Train) -> None:
    with pytest.raises(UserError, match=r"digits \(train\) holds no images"):
        train(tmp_path / "run", dataset=Empty())
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("size, expected", [(12, 12), (32, 32), (1000, 32)])
def test_validation_covers_the_grid_from_end_to_end(size: int, expected: int) -> None:
    process = Process.cosine(size)
    times = validation_times(Denoiser(lambda x, time: x, process, "v"))
    assert len(times) == expected
    assert times[0] == process.grid[1]
    assert times[-1] == 1
    gaps = (times.diff() * size).round()
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"iterations": -1}, "pretrain.iterations is -1, but must be at least 0"),
        ({"batch_size": 0}, "pretrain.batch_size is 0, but must be at least 1"),
        ({"validate_every": -1}, "pretrain.validate_every is -1, but must be at least 1"),
        ({"warmup": -1}, "pretrain.warmup is -1, but must be at least 0"),
        ({"learning_rate": -1.0}, "pretrain.learning_rate is -1.0, but must be positive and finite"),
        ({"ema_decay": -0.1}, r"pretrain.ema_decay is -0.1, but must lie in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Pretraining(**settings)
