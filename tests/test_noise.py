"""Noise belongs to (seed, image index, step), and is standard normal and independent across all three."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data.base import SPLITS, image_numbers
from fewstep.noise import Noise

SHAPE = (1, 4, 4)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=12), st.integers(0, 2**32), st.integers(0, 1000))
def test_an_images_noise_does_not_know_its_batch(indices: list[int], seed: int, step: int) -> None:
    together = Noise(seed, indices, SHAPE)(step)
    assert together.dtype == torch.float64
    for row, index in enumerate(indices):
        assert torch.equal(together[row], Noise(seed, [index], SHAPE)(step)[0])


def test_the_same_noise_again_and_in_any_order_of_steps() -> None:
    noise = Noise(3, range(5), SHAPE)
    late, early = noise(7), noise(0)
    assert torch.equal(noise(0), early)
    assert torch.equal(noise(7), late)
    assert torch.equal(Noise(3, range(5), SHAPE)(7), late)


def test_a_larger_image_begins_with_the_same_numbers() -> None:
    """The draw is one stream per image, so that nothing but (seed, index, step) picks it."""
    small, large = Noise(0, [5], (4,))(2), Noise(0, [5], (9,))(2)
    assert torch.equal(large[0, :4], small[0])


def test_noise_is_standard_normal() -> None:
    n = 400 * 256
    draws = Noise(0, range(400), (256,))(0).flatten()
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        values = draws**power
        standard_error = (values.std() / n**0.5).item()
        assert abs(values.mean().item() - moment) < 4 * standard_error


def test_streams_are_uncorrelated() -> None:
    """No pair of (seed, index, step) shares numbers, swapped ones and neighbours included."""
    n = 4096
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 1, 0), (1, 2, 0)]
    keys += [(0, 2**31, 0), (2**40, 0, 0), (0, 0, 999)]
    draws = np.stack([Noise(seed, [index], (n,))(step)[0].numpy() for seed, index, step in keys])
    correlation = np.corrcoef(draws) - np.eye(len(keys))
    assert np.abs(correlation).max() < 4.5 / n**0.5
    # Nor is one stream another one a few numbers later.
    for lag in range(1, 9):
        lagged = draws[:, lag:] @ draws[:, :-lag].T / (n - lag)
        assert np.abs(lagged).max() < 5 / n**0.5


@pytest.mark.parametrize("step", [1, 2, 50])
def test_two_steps_of_one_image_never_overlap(step: int) -> None:
    first, second = Noise(0, [0], (2000,))(0)[0], Noise(0, [0], (2000,))(step)[0]
    assert not set(first.tolist()) & set(second.tolist())


def test_images_of_different_splits_share_no_noise() -> None:
    """What judges must not be judged with the very noise that the search has seen."""
    draws = [Noise(0, image_numbers(split, 3), (2,))(0) for split in SPLITS]
    values = torch.cat(draws).flatten()
    assert len(values.unique()) == len(values)


def test_every_image_has_philoxs_own_stream() -> None:
    """(seed, number) is the key and the step the counter's high word of NumPy's generator, set up from nothing."""
    for seed, number, step in [(0, 0, 0), (3, 2**33 + 5, 7), (2**32 - 1, 12, 2)]:
        bits = np.random.Philox(key=[seed, number], counter=[0, 0, 0, step])
        expected = np.random.Generator(bits).standard_normal((2, 3))
        np.testing.assert_array_equal(Noise(seed, [5, number], (2, 3))(step)[1].numpy(), expected)
