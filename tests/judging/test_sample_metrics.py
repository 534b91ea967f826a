"""Rows of what else is measured of samples: those of the metrics themselves, with the floor's beside them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fewstep.artefacts.features import Features
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.judging.frechet import feature_rows, floor_rows, sample_rows
from fewstep.judging.settings import Evaluation, Judge
from fewstep.metrics.frechet import FeatureMoments
from fewstep.metrics.kid import KernelDistance
from fewstep.metrics.precision_recall import PrecisionRecall
from fewstep.process import Process
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.ddim import Ddim
from tests.quiet_trainer import quiet_trainer

PROCESS = Process.cosine(12, 1 / 16)
SAMPLES = ROWS + 9
LABELS = {"dataset": "digits", "process": "cosine", "schedule_optimizer": "even"}


@pytest.fixture(scope="module")
def judge(features: Features) -> Judge:
    with torch.inference_mode():
        kept = features.extractor.features(Digits().images("train")[:100])
    return Judge(
        settings=Evaluation(samples=SAMPLES, sample_metrics=["kid", "precision_recall"]),
        solvers={"ddim": Ddim()},
        features=features,
        shape=(1, 8, 8),
        levels=17,
        trainer=lambda description: quiet_trainer(),
        kept_features=kept,
    )


def test_samples_have_a_row_for_each_measure(judge: Judge, perfect_denoiser: Callable[..., Denoiser]) -> None:
    denoiser, schedule = perfect_denoiser(PROCESS, 0.3, -0.3), Schedule.on_grid([0, 4, 12], PROCESS)
    rows = sample_rows(judge, denoiser, "ddim", schedule, 3, LABELS)
    assert [row.metric for row in rows] == ["fid_digits", "kid_digits", "precision_digits", "recall_digits"]
    images = to_grey_levels(sample(denoiser, Ddim(), schedule, range(SAMPLES), 3, (1, 8, 8)), 17)
    with torch.inference_mode():
        features = judge.features.extractor.features(images)
    expected = {}
    assert judge.kept_features is not None
    for metric in (KernelDistance(judge.kept_features, SAMPLES), PrecisionRecall(judge.kept_features, SAMPLES)):
        metric.update(features, torch.arange(SAMPLES))
        expected |= metric.compute()
    for row in rows[1:]:
        value, error = expected[row.metric.removesuffix("_digits")]
        assert row.value == pytest.approx(value, rel=1e-4, abs=1e-9)
        assert row.standard_error == pytest.approx(error, rel=1e-4, abs=1e-9)
        assert (row.n_images, row.split, row.sample_seed, row.steps) == (SAMPLES, "train", 3, 2)


def test_real_images_have_the_same_rows(judge: Judge) -> None:
    rows = floor_rows(judge, Digits(), LABELS)
    assert [row.metric for row in rows] == ["fid_digits", "kid_digits", "precision_digits", "recall_digits"]
    assert {(row.schedule_optimizer, row.n_images, row.split, row.steps) for row in rows} == {
        ("data", 360, "train", None)
    }
    assert rows[2].value > 0.8  # real digits lie among real digits


def test_the_floor_is_not_of_the_reference_itself(judge: Judge, features: Features) -> None:
    against_test = replace(judge, features=replace(features, split="test"))
    rows = floor_rows(against_test, Digits(), LABELS)
    assert {(row.n_images, row.split) for row in rows} == {(180, "test")}


def test_what_is_known_of_the_judge_is_a_row(features: Features) -> None:
    accuracy, reference = feature_rows(features, LABELS)
    assert (accuracy.metric, accuracy.value, accuracy.n_images) == ("feature_accuracy", 0.25, 360)
    assert (reference.metric, reference.value, reference.split) == ("reference_images", 1257, "train")
    moments = FeatureMoments(features.reference.mean, features.reference.covariance, None)
    assert feature_rows(Features("inception", features.extractor, moments), LABELS) == []
