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

    def labels(self, split: str) -> Tensor | None:
        """Int64 [N] from 0, the classes of `images(split)`; None where they have none."""
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


def checked_labels(dataset: Dataset, split: str, num_classes: int | None) -> Tensor | None:
    """The labels that go with `checked_images` into a model of so many classes; None into one without classes.

    Raises:
        UserError: the dataset has none, or not of these classes.
    """
    if num_classes is None:
        return None
    source = f"{dataset.name} ({split})"
    return check_labels(dataset.labels(split), len(dataset.images(split)), num_classes, source)


def check_labels(labels: Tensor | None, n: int, num_classes: int, source: str) -> Tensor:
    """Labels of n images that go into a model of so many classes.

    Raises:
        UserError: there are none, or they are not n whole numbers below the number of classes.
    """
    if labels is None:
        raise UserError(
            f"The model takes a label of {num_classes} classes with every image, but {source} has no labels; take "
            "images with labels, or a model without classes."
        )
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise UserError(
            f"The labels of {source} must be int64 [{n}], one for each image; given was {labels.dtype} "
            f"{list(labels.shape)}."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise UserError(
            f"The labels of {source} run from {low} to {high}, but the model has {num_classes} classes, which are "
            f"numbered from 0 to {num_classes - 1}."
        )
    return labels


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
