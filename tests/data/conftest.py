"""Cached images in folders of their own, and a set that no memory holds and that knows what it was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def as_images() -> Callable[[Any], Tensor]:
    """Uint8 pixels → float32 in [-1, 1], by hand."""

    def convert(pixels: Any) -> Tensor:
        return torch.from_numpy(np.asarray(pixels).astype(np.float32)) / 127.5 - 1

    return convert


@pytest.fixture
def npy(tmp_path: Path) -> Callable[[Any], Path]:
    """An array → the path of a file that holds it."""

    def save(array: Any) -> Path:
        path = tmp_path / "images.npy"
        np.save(path, array)
        return path

    return save


class VirtualImages:
    """Image i is made when it is asked for: every pixel (i mod 256) + its own number, modulo 256 grey levels.

    Attributes:
        largest: the most images that were ever asked for at once.
        asked: all images that were asked for.
    """

    def __init__(self, n: int, shape: tuple[int, int, int], grey_levels: int | None) -> None:
        self.shape = (n, *shape)
        self.largest = self.asked = 0
        if grey_levels is not None:
            self.grey_levels = grey_levels
        self.pixels = torch.arange(shape[0] * shape[1] * shape[2]).reshape(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        numbers = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows
        self.largest, self.asked = max(self.largest, len(numbers)), self.asked + len(numbers)
        levels = (numbers[:, None, None, None] + self.pixels) % 256
        return levels.float() / 255 * 2 - 1


class VirtualDataset:
    """A million training images and fewer others."""

    name = "virtual"
    levels = 256

    def __init__(self, shape: tuple[int, int, int], n: int = 1_000_000, grey_levels: int | None = 256) -> None:
        self.shape = shape
        sizes = {"train": n, "validation": 1000, "test": 3000}
        self.sets = {split: VirtualImages(size, shape, grey_levels) for split, size in sizes.items()}

    def images(self, split: str) -> VirtualImages:
        return self.sets[split]

    def labels(self, split: str) -> Tensor:
        return torch.arange(len(self.sets[split])) % 5


@pytest.fixture
def imagenet() -> VirtualDataset:
    """Of ImageNet64's shape and size."""
    return VirtualDataset((3, 64, 64))


@pytest.fixture
def million() -> VirtualDataset:
    """A million images of 4 pixels, which do not say that they are bytes."""
    return VirtualDataset((1, 2, 2), grey_levels=None)
