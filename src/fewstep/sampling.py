"""Samples that depend on the image's index and nothing else: not on batch size, nor on the number of devices."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise, class_labels
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver, device_of

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

    Of a class-conditional model every image is of a class drawn uniformly by seed and index, as in EDM's sampling
    for FID (Karras et al. 2022): the images are of the model's classes alike, whatever the data's shares are.

    Args:
        denoiser: the model.
        solver: any solver.
        schedule: the times that it visits.
        indices: which images; each has noise of its own.
        seed: of the noise and the classes.
        shape: (C, H, W).
    """
    images = torch.empty(len(indices), *shape, dtype=torch.float64)
    blocks: dict[int, list[int]] = defaultdict(list)
    for position, index in enumerate(indices):
        blocks[index // ROWS].append(position)
    for block, positions in blocks.items():
        of_block = range(block * ROWS, (block + 1) * ROWS)
        noise = Noise(seed, of_block, shape)
        label = None
        if denoiser.num_classes is not None:
            label = class_labels(seed, of_block, denoiser.num_classes).to(device_of(denoiser))
        rows = [indices[position] % ROWS for position in positions]
        with torch.inference_mode():
            *_, last = solver(denoiser, schedule, noise, label)
        images[positions] = last.x.cpu()[rows]
    return images


def sampling_calls(images: int, calls_per_image: int) -> Calls:
    """The network calls of `sample` for the images 0 … n − 1, whose rows of padding go through the network too."""
    return Calls(-(-images // ROWS) * ROWS * calls_per_image, batch=ROWS)


def to_grey_levels(images: Tensor, levels: int) -> Tensor:
    """Images as they would be saved: clipped to [-1, 1] and rounded to the nearest of `levels` grey levels."""
    return ((images.clamp(-1, 1) + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1
