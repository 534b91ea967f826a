"""Samples that depend on the image's index and nothing else: not on batch size, nor on the number of devices."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver

# A matrix product's rounding can depend on how many rows it has, so every image is computed in the row
# (index mod ROWS) of a batch of exactly ROWS; rows that nobody asked for are padding.
ROWS = 128


def sample(
    denoiser: Denoiser,
    solver: Solver,
    schedule: Schedule,
    indices: Sequence[int],
    seed: int,
    shape: Sequence[int],
) -> Tensor:
    """The images of the given indices, float64 [len(indices), C, H, W], on the CPU; the same bits in any company.

    Args:
        denoiser: the model.
        solver: any solver.
        schedule: the times that it visits.
        indices: which images; each has noise of its own.
        seed: of the noise.
        shape: (C, H, W).
    """
    images = torch.empty(len(indices), *shape, dtype=torch.float64)
    blocks: dict[int, list[int]] = defaultdict(list)
    for position, index in enumerate(indices):
        blocks[index // ROWS].append(position)
    for block, positions in blocks.items():
        noise = Noise(seed, range(block * ROWS, (block + 1) * ROWS), shape)
        rows = [indices[position] % ROWS for position in positions]
        with torch.inference_mode():
            *_, last = solver(denoiser, schedule, noise)
        images[positions] = last.x.cpu()[rows]
    return images


def sampling_calls(images: int, calls_per_image: int) -> Calls:
    """The network calls of `sample` for the images 0 … n − 1, whose rows of padding go through the network too."""
    return Calls(-(-images // ROWS) * ROWS * calls_per_image, batch=ROWS)


def to_grey_levels(images: Tensor, levels: int) -> Tensor:
    """Images as they would be saved: clipped to [-1, 1] and rounded to the nearest of `levels` grey levels."""
    return ((images.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1
