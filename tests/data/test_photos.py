"""Windows of two photographs, whose splits share no pixel."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from fewstep.data.base import SPLITS
from fewstep.data.photos import SIZE, Photos, positions

PHOTOGRAPHS = np.stack(load_sample_images().images)  # [2, 427, 640, 3]


def test_no_pixel_belongs_to_two_splits() -> None:
    covered = np.zeros((len(SPLITS), *PHOTOGRAPHS.shape[:3]), bool)
    for number, split in enumerate(SPLITS):
        for photograph, top, left in positions(split).tolist():
            assert top >= 0
            assert left >= 0
            assert top + SIZE <= 427
            assert left + SIZE <= 640
            covered[number, photograph, top : top + SIZE, left : left + SIZE] = True
    assert covered.sum(0).max() == 1
    assert covered.any(0).mean() > 0.95  # and hardly any is left out


@pytest.fixture(scope="module")
def photos() -> Photos:
    return Photos()


@pytest.mark.parametrize(("split", "n"), [("train", 17_820), ("validation", 1_980), ("test", 3_564)])
def test_images_are_the_photographs_own_pixels(photos: Photos, split: str, n: int) -> None:
    images, labels, where = photos.images(split), photos.labels(split), positions(split)
    assert images.shape == (n, 3, 32, 32)
    assert images.dtype == torch.float32
    assert len({tuple(position) for position in where.tolist()}) == n
    for row in (0, 1, n // 2, n - 1):
        photograph, top, left = where[row].tolist()
        window = PHOTOGRAPHS[photograph, top : top + 32, left : left + 32].transpose(2, 0, 1)
        assert torch.equal(((images[row] + 1) * 127.5).round(), torch.from_numpy(window).float())
        middle = left + 16, top + 16
        assert labels[row] == 6 * photograph + 3 * (middle[0] >= 320) + int(middle[1] / (427 / 3))


@pytest.mark.parametrize("split", SPLITS)
def test_every_region_is_in_every_split(photos: Photos, split: str) -> None:
    assert photos.labels(split).unique().tolist() == [*range(12)]


def test_the_first_images_are_a_fair_sample(photos: Photos) -> None:
    # 200 draws of one in two: a share below 0.35 or above 0.65 has a probability of 2e-5.
    flowers = photos.labels("train")[:200] >= 6
    assert 0.35 < flowers.float().mean() < 0.65
