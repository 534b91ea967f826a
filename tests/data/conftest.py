"""Cached images in folders of their own."""

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
