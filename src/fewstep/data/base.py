"""What every image source offers. A new dataset is one file with these members."""

from typing import Protocol

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.likelihood import check_images

SPLITS = ("train", "validation", "test")


class Dataset(Protocol):
    """Real images in three splits.

    Attributes:
        name: the dataset's word in configs and tables.
        shape: (C, H, W).
        levels: number of grey levels, over which bits/dim discretises.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int

    def images(self, split: str) -> Tensor:
        """Float32 [N, C, H, W] in [-1, 1], always in the same order."""
        ...

    def labels(self, split: str) -> Tensor:
        """Int64 [N], the classes of `images(split)`."""
        ...


def image_numbers(split: str, n: int) -> range:
    """The numbers of a split's first n images, unlike those of any other split: noise belongs to them."""
    first = SPLITS.index(split) << 32
    return range(first, first + n)


def check_split(split: str, name: str) -> None:
    """Raise a UserError unless `split`, a setting called `name`, is one of `SPLITS`."""
    if split not in SPLITS:
        raise UserError(f"{name} is {split!r}; allowed are {', '.join(SPLITS)}.")


def checked_images(dataset: Dataset, split: str) -> Tensor:
    """`dataset.images(split)` after the checks that every source must pass.

    Raises:
        UserError: no such split, or images of the wrong shape, range or levels, or none.
    """
    check_split(split, "the split")
    images = dataset.images(split)
    source = f"{dataset.name} ({split})"
    check_images(images, dataset.levels, source)
    if tuple(images.shape[1:]) != tuple(dataset.shape):
        raise UserError(f"The images of {source} have shape {list(images.shape[1:])}, not {list(dataset.shape)}.")
    return images.to(torch.float32)


def data_std(images: Tensor) -> float:
    """The root-mean-square over pixels of the standard deviation over images [N, C, H, W]."""
    return images.double().var(dim=0).mean().sqrt().item()
