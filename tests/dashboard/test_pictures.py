"""A grid of samples has every pixel of every sample."""

import numpy as np
import pytest
import torch

from fewstep.dashboard.pictures import grid


@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_stands_in_the_picture_enlarged_by_a_whole_factor(channels: int) -> None:
    grey = torch.randint(0, 256, (12, channels, 8, 6), generator=torch.Generator().manual_seed(0))
    picture = grid(grey / 127.5 - 1).reshape(2 * 48 + 2, 10 * 36 + 18, channels)
    for number, image in enumerate(grey):
        row, column = divmod(number, 10)
        top, left = row * 50, column * 38
        cell = picture[top : top + 48 : 6, left : left + 36 : 6]
        assert np.array_equal(cell, image.permute(1, 2, 0).numpy())
        assert np.array_equal(picture[top : top + 48, left : left + 36][5::6, 5::6], cell)


def test_large_samples_are_not_enlarged_and_values_beyond_the_ends_are_clipped() -> None:
    assert grid(torch.full((1, 1, 64, 64), 1.5)).tolist() == [[255] * 64] * 64
