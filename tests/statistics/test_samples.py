"""The samples of a search: the images and noises that the other kinds see, from their files too."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics import samples, validation_samples
from fewstep.statistics.denoising_error import DenoisingError
from fewstep.statistics.samples import Samples

PROCESS = Process.cosine(20, 0.07)


def drawn(images: Tensor, split: str, seed: int = 4) -> Samples:
    module = {"train": samples, "validation": validation_samples}[split]
    estimator = module.Estimator(
        images, None, split=split, levels=17, indices=range(1, 21), seed=seed, batch_size=2
    )
    return estimator.collect(PROCESS, [estimator.measure(None, row) for row in range(len(estimator))])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_they_are_the_images_and_noises_behind_the_denoising_error(
    split: str, measure: Callable[..., DenoisingError], grey_images: Callable[..., Tensor]
) -> None:
    denoiser = Denoiser(lambda x, time: torch.tanh(x) / (1 + time.reshape(-1, 1, 1, 1) / 20), PROCESS, "x0")
    images = grey_images(5)
    found = drawn(images, split)
    statistics = {"denoising_error": measure(images, denoiser, split=split, seed=4)}
    schedule = Schedule.on_grid([0, 3, 11, 20], PROCESS)
    loss = MseReweighted().loss(denoiser, found.x0, schedule.times, found.noise, statistics)
    assert loss.item() == pytest.approx(MseReweighted().value(statistics, schedule), rel=1e-12)


def test_splits_have_noises_of_their_own(grey_images: Callable[..., Tensor]) -> None:
    images = grey_images(3)
    assert torch.equal(drawn(images, "train").x0, drawn(images, "validation").x0)
    assert not torch.equal(drawn(images, "train").noise, drawn(images, "validation").noise)
    assert torch.equal(drawn(images[:2], "train").noise, drawn(images, "train").noise[:2])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_they_come_back_from_their_file(split: str, tmp_path: Path, grey_images: Callable[..., Tensor]) -> None:
    before = drawn(grey_images(3), split)
    before.save(tmp_path / "file")
    after = {"train": samples, "validation": validation_samples}[split].load(tmp_path / "file")
    assert torch.equal(before.x0, after.x0)
    assert torch.equal(before.noise, after.noise)
    assert (after.process, after.levels, after.split, after.seed) == (PROCESS, 17, split, 4)
    assert after.calls == 0


def test_a_file_of_the_other_kind_is_refused(tmp_path: Path, grey_images: Callable[..., Tensor]) -> None:
    drawn(grey_images(3), "validation").save(tmp_path / "file")
    with pytest.raises(UserError, match="does not hold statistics of the kind samples"):
        samples.load(tmp_path / "file")
