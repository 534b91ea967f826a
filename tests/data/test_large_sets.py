"""What never fits memory is never asked for at once: the largest piece of a million images, whoever asks."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts.extractors.classifier import ClassifierExtractor
from fewstep.artefacts.statistics import StatisticsSettings, statistics_of
from fewstep.backbones.unet import UNet
from fewstep.data import base
from fewstep.data.base import blocks, checked_images, part_of
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.frechet import floor_rows
from fewstep.judging.health import wiener_row
from fewstep.judging.settings import Evaluation, Judge
from fewstep.modules.training import BATCH, TrainingBatches, ValidationError
from fewstep.process import Process
from fewstep.report.findings import health_findings
from fewstep.sampling import ROWS
from fewstep.statistics import samples
from fewstep.statistics.covariance import DataCovariance
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.time_distribution import UniformTimes
from fewstep.weights import save_model

PROCESS = Process.cosine(6, 1 / 255)
TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)
LARGEST = base.BLOCK_BYTES // (8 * 3 * 64 * 64)
NETWORK: dict[str, Any] = {
    "image_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 4,
    "num_res_blocks": 1,
    "channel_mult": [1],
    "attention_resolutions": [],
    "num_heads": 1,
    "num_groups": 1,
}


def nothing(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x)


def test_bytes_by_construction_are_not_looked_at(imagenet) -> None:
    images = checked_images(imagenet, "train")
    assert (len(images), images.shape[1:], imagenet.sets["train"].asked) == (1_000_000, (3, 64, 64), 0)


def test_other_values_are_looked_at_once_and_in_blocks(million) -> None:
    whole = million.sets["train"]
    for _ in range(3):
        checked_images(million, "train")
    assert whole.asked == len(whole)
    assert whole.largest * 4 * 8 <= base.BLOCK_BYTES


@pytest.mark.parametrize("levels", [255, 17])
def test_values_off_the_grey_levels_are_found_in_the_last_block(levels: int, million) -> None:
    """A set that was found good on 256 levels is looked at again for others."""
    checked_images(million, "train")
    million.levels = levels
    with pytest.raises(UserError, match=rf"virtual \(train\) do not lie on {levels} grey levels"):
        checked_images(million, "train")


def test_blocks_are_all_rows_in_order_and_parts_are_rows_of_the_whole(imagenet) -> None:
    whole = imagenet.sets["train"]
    rows = list(blocks(whole))
    assert [one.start for one in rows[1:]] == [one.stop for one in rows[:-1]]
    assert (rows[0].start, rows[-1].stop, rows[0].stop) == (0, len(whole), LARGEST)
    part = part_of(part_of(whole, 10, None), 5, 25)
    assert whole.asked == 0
    assert (len(part), part.shape[0]) == (20, 20)
    assert torch.equal(part[2:7], whole[17:22])
    assert torch.equal(part[torch.tensor([19, 0])], whole[torch.tensor([34, 15])])


def test_training_and_validation_read_batches(imagenet) -> None:
    batches = TrainingBatches(checked_images(imagenet, "train"), UniformTimes(PROCESS), 8, seed=0)
    assert batches.batch(3)[0].shape == (8, 3, 64, 64)
    assert imagenet.sets["train"].largest == 8
    denoiser = Denoiser(nothing, PROCESS, "x0")
    validation = ValidationError(part_of(imagenet.images("validation"), 0, BATCH + 9), PROCESS.grid[[2]], seed=0)
    errors = validation.per_image(denoiser, torch.device("cpu"))
    assert imagenet.sets["validation"].largest == BATCH
    expected = imagenet.images("validation")[BATCH - 2 : BATCH + 9].square().flatten(1).mean(1)
    torch.testing.assert_close(errors[BATCH - 2 :], expected.double())  # the x0 form's weight is 1


@pytest.mark.parametrize("images, largest", [(2, 2), (7, 3)])
def test_statistics_read_the_first_images_block_by_block(
    images: int, largest: int, imagenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "BLOCK_BYTES", 3 * 8 * 3 * 64 * 64)
    torch.manual_seed(0)
    save_model(tmp_path / "weights", Denoiser(UNet(**NETWORK), PROCESS, "edm"), (3, 64, 64), 256)
    settings = StatisticsSettings(images=images, batch_size=32)
    path = statistics_of(
        *(KIND, tmp_path, tmp_path / "weights", imagenet, {"name": "virtual"}, settings, TRAINER), indices=[3]
    )
    assert (imagenet.sets["train"].largest, imagenet.sets["train"].asked) == (largest, images)
    found = DenoisingError.load(path)
    assert found.n_images == found.calls == images
    assert found.by_variance is None


def test_samples_of_a_search_are_as_many_as_fit(imagenet) -> None:
    train = imagenet.sets["train"]
    samples.Estimator(train, None, split="train", levels=256, indices=[1], seed=0, batch_size=2)
    assert train.largest == train.asked == 1365


def test_a_covariance_of_so_many_dimensions_is_refused_unread(imagenet) -> None:
    with pytest.raises(UserError, match=r"at most 4096 dimensions; of shape \[3, 64, 64\] they have 12288"):
        DataCovariance.of(imagenet.sets["train"])
    assert imagenet.sets["train"].asked == 0


def test_the_health_that_is_not_checked_is_told(imagenet, measure) -> None:
    measured = measure(imagenet.images("train")[:2], Denoiser(nothing, PROCESS, "x0"), levels=256, indices=[3])
    row = wiener_row(imagenet, measured, {})
    (sentence,) = health_findings([row])
    assert "health is not checked" in sentence
    assert "12,288 dimensions" in sentence
    assert "4,096" in sentence


def test_the_covariance_of_a_million_images_is_that_of_their_cycle(million) -> None:
    """256 distinct images, each as often as the others but for the last cycle, which is left out."""
    whole = part_of(million.images("train"), 0, 3906 * 256)
    found = DataCovariance.of(whole)
    assert million.sets["train"].largest * 4 * 8 <= base.BLOCK_BYTES
    cycle = million.images("train")[:256].double().flatten(1)
    expected = torch.cov(cycle.T) * 255 / 256 * len(whole) / (len(whole) - 1)
    rebuilt = found.eigenvectors * found.eigenvalues @ found.eigenvectors.T
    torch.testing.assert_close(rebuilt, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.mean, cycle.mean(0), rtol=0, atol=1e-12)


def test_the_judge_is_trained_and_its_reference_made_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.data.conftest import VirtualDataset

    dataset = VirtualDataset((1, 4, 4), n=640)
    monkeypatch.setattr(base, "BLOCK_BYTES", 100 * 16 * 8)
    settings = ClassifierExtractor(epochs=1, batch_size=32, width=4, num_features=6)
    folder = settings.make(tmp_path, dataset, {"name": "virtual"}, TRAINER)
    features = settings.load(folder, dataset)
    assert {name: one.largest for name, one in dataset.sets.items()} == {
        "train": ROWS,
        "validation": 0,
        "test": 100,
    }
    with torch.inference_mode():
        of_train = features.extractor.features(dataset.images("train")[:]).double()
    assert features.reference.n == 640
    torch.testing.assert_close(features.reference.mean, of_train.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.reference.covariance, torch.cov(of_train.T), rtol=1e-4, atol=1e-6)
    judge = Judge(
        settings=Evaluation(),
        solvers={},
        shape=dataset.shape,
        levels=256,
        features=features,
        trainer=lambda _: TRAINER(),
    )
    (row,) = floor_rows(judge, dataset, {"dataset": "virtual"})
    assert math.isfinite(row.value)
    assert dataset.sets["test"].largest == ROWS
