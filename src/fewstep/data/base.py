"""What every image source offers. A new dataset is one file with these members."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from fewstep.errors import UserError
from fewstep.likelihood import check_images

SPLITS = ("train", "validation", "test")
BLOCK_BYTES = 2**24  # of images in float64, worked on at a time; what is made of them takes several times this


@runtime_checkable
class Images(Protocol):
    """Images that index like a tensor along their first axis, [N, C, H, W]; a tensor is one of its kind.

    A large set lies on a disk and reads what it is asked for, so that who works on all of it takes `blocks`.

    A set may state `grey_levels`, the number of levels that its values lie on by the way they are stored, as
    bytes lie on 256: these are then not looked at before the first use.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        """Float32 [n, C, H, W] in [-1, 1], of a slice or of int64 row numbers [n]."""
        ...


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

    def images(self, split: str) -> Images:
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


def checked_images(dataset: Dataset, split: str) -> Images:
    """`dataset.images(split)` after the checks that every source must pass; values are looked at once.

    Raises:
        UserError: no such split, or images of the wrong shape, range or levels, or none.
    """
    check_split(split, "the split")
    images = dataset.images(split)
    source = f"{dataset.name} ({split})"
    check_set(images, dataset.levels, source)
    if tuple(images.shape[1:]) != tuple(dataset.shape):
        raise UserError(f"The images of {source} have shape {list(images.shape[1:])}, not {list(dataset.shape)}.")
    return images.to(torch.float32) if isinstance(images, Tensor) else images


_LEVELS_SEEN = WeakIdKeyDictionary()  # images → the grey levels that all of their values were found on


def check_set(images: Images, levels: int, source: str) -> None:
    """`check_images` of a set of any size, block by block, and no second time for the same set.

    Raises:
        UserError: images of the wrong shape, range or levels, or none.
    """
    if not isinstance(images, Images) or len(images.shape) != 4 or 0 in images.shape:
        check_images(images, levels, source)  # type: ignore[arg-type]
        raise UserError(f"The images of {source} must be of shape [N, C, H, W]; given was {list(images.shape)}.")
    if isinstance(levels, int) and levels in (getattr(images, "grey_levels", None), _LEVELS_SEEN.get(images)):
        return
    for rows in blocks(images):
        check_images(images[rows], levels, source)
    _LEVELS_SEEN[images] = levels


def blocks(images: Images) -> Iterator[slice]:
    """The rows of all images in order, at most `BLOCK_BYTES` at a time; at least one image each."""
    size = max(1, BLOCK_BYTES // (8 * math.prod(images.shape[1:])))
    return (slice(first, min(first + size, len(images))) for first in range(0, len(images), size))


def part_of(images: Images, first: int, end: int | None) -> Images:
    """Images first … end − 1, to the last for None; of a set that is no tensor none is read before its use."""
    return images[first:end] if isinstance(images, Tensor) else _Part(images, range(len(images))[first:end])


@dataclass(frozen=True)
class _Part:
    """Consecutive images of a set."""

    whole: Images
    numbers: range

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.numbers), *self.whole.shape[1:])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, Tensor):
            return self.whole[rows + self.numbers.start]
        chosen = self.numbers[rows]
        return self.whole[chosen.start : chosen.stop : chosen.step]


def data_std(images: Tensor) -> float:
    """The root-mean-square over pixels of the standard deviation over images [N, C, H, W]."""
    return images.double().var(dim=0).mean().sqrt().item()
