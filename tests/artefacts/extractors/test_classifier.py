"""The judge of samples: trained once, the same for everybody, and what its record says is so."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts.extractors.classifier import ClassifierExtractor
from fewstep.data.digits import Digits
from fewstep.errors import UserError

SETTINGS = ClassifierExtractor(epochs=4, width=16, num_features=16)
TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)


def no_trainer(**_: Any) -> pl.Trainer:
    raise AssertionError("trained again")


def trained(root: Path, settings: ClassifierExtractor = SETTINGS, trainer: Any = TRAINER) -> Path:
    return settings.make(root, Digits(), {"name": "digits"}, trainer)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return trained(root)


def test_the_second_who_asks_trains_nothing(root: Path, folder: Path) -> None:
    assert trained(root, trainer=no_trainer) == folder


def test_other_settings_are_another_judge(root: Path, folder: Path) -> None:
    with pytest.raises(AssertionError, match="trained again"):
        trained(root, ClassifierExtractor(epochs=4, width=16, num_features=17), no_trainer)


def test_training_is_a_function_of_its_seed(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(17)
    again = trained(tmp_path)
    assert (again / "classifier.safetensors").read_bytes() == (folder / "classifier.safetensors").read_bytes()
    other = trained(tmp_path, ClassifierExtractor(epochs=4, width=16, num_features=16, seed=1))
    assert (other / "classifier.safetensors").read_bytes() != (folder / "classifier.safetensors").read_bytes()


def test_the_reference_holds_the_moments_of_the_training_splits_features(folder: Path) -> None:
    features = SETTINGS.load(folder, Digits())
    assert not features.extractor.training
    with torch.inference_mode():
        of_train = features.extractor.features(Digits().images("train")).double().numpy()
    assert features.reference.n == 1257
    assert torch.from_numpy(of_train.mean(0)).allclose(features.reference.mean, rtol=1e-6, atol=1e-9)
    covariance = torch.from_numpy(np.cov(of_train, rowvar=False))
    assert covariance.allclose(features.reference.covariance, rtol=1e-5, atol=1e-9)


def test_the_accuracy_is_that_on_test_digits_and_far_above_chance(folder: Path) -> None:
    features = SETTINGS.load(folder, Digits())
    with torch.inference_mode():
        guesses = features.extractor(Digits().images("test")).argmax(1)
    right = (guesses == Digits().labels("test")).sum().item()
    assert features.n_test == 360
    assert features.accuracy == pytest.approx(right / 360, rel=1e-12)
    assert features.accuracy > 0.5


def test_the_record_tells_what_it_was_trained_with(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    assert record["config"]["features"]["num_features"] == 16
    assert record["config"]["dataset"] == {"name": "digits"}
    assert record["seed"] == 0


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"epochs": 0}, "features.epochs, .* at least 1"),
        ({"num_features": 0}, "num_features must each be at least 1"),
        ({"learning_rate": float("nan")}, "features.learning_rate is nan"),
        ({"seed": -3}, "features.seed is -3"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ClassifierExtractor(**settings)


def test_more_images_per_batch_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"features\.batch_size is 1258, but digits has 1257 training images"):
        trained(tmp_path, ClassifierExtractor(batch_size=1258))
