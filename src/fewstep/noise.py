"""Randomness that belongs to an image's index, not to the batch that the image happens to sit in."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import UserError

LARGEST_SEED = 2**32 - 1  # of numpy's older generator, which training seeds too

# Philox (Salmon et al. 2011) is a counter-based generator: the seed and the image's index are its key, the
# step its counter's high word, so that every draw is reached directly and no two overlap.


def check_seed(seed: int, name: str) -> None:
    """Raise a UserError unless `seed`, a setting called `name`, is a whole number from 0 to 2³² − 1."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"{name} is {seed}; allowed are whole numbers from 0 to {LARGEST_SEED}.")


class Noise:
    """Standard normal noise for the images `indices`: (seed, image index, step) → the same numbers always.

    Call it with a step to get float64 noise [B, *shape]. Step 0 is the initial noise of a sampler, step j the
    fresh noise of its j-th move, counted from t = 1 downwards, so that schedules of different length start
    from the same noise.
    """

    def __init__(self, seed: int, indices: Sequence[int], shape: Sequence[int]) -> None:
        self.seed = seed
        self.indices = tuple(int(index) for index in indices)
        self.shape = tuple(shape)

    def __call__(self, step: int) -> Tensor:
        """Float64 [len(indices), *shape]."""
        draws = np.empty((len(self.indices), *self.shape))
        # One generator, set anew for every image: making one takes five times as long as drawing a small image.
        bits = np.random.Philox(key=[0, 0])
        generator, state = np.random.Generator(bits), bits.state
        state["state"]["counter"][:] = (0, 0, 0, step)
        for row, index in enumerate(self.indices):
            state["state"]["key"][:] = (self.seed, index)
            bits.state = state
            generator.standard_normal(self.shape, out=draws[row])
        return torch.from_numpy(draws)


def class_labels(seed: int, indices: Sequence[int], num_classes: int) -> Tensor:
    """A class for each of the images `indices`, int64 [len(indices)], drawn uniformly from 0 … num_classes − 1.

    (seed, image index) → the same class always; nothing of the image's noise is drawn for it.
    """
    bits = np.random.Philox(key=[0, 0])
    generator, state = np.random.Generator(bits), bits.state
    state["state"]["counter"][:] = (0, 1, 0, 0)  # noise counts up from (0, 0, 0, step)
    labels = np.empty(len(indices), dtype=np.int64)
    for row, index in enumerate(indices):
        state["state"]["key"][:] = (seed, index)
        bits.state = state
        labels[row] = generator.integers(num_classes)
    return torch.from_numpy(labels)


class InitialNoise:
    """Step 0's noise of many images, float64 [N, *shape], each drawn when it is asked for: indexes like a tensor.

    Args:
        seed: as of `Noise`.
        numbers: the images' indices.
        shape: of one image.
    """

    def __init__(self, seed: int, numbers: range, shape: Sequence[int]) -> None:
        self.seed, self.numbers = seed, numbers
        self.shape = (len(numbers), *shape)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        chosen = self.numbers[rows] if isinstance(rows, slice) else [self.numbers[row] for row in rows.tolist()]
        return Noise(self.seed, chosen, self.shape[1:])(0)
