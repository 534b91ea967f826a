"""Images in a file that is mapped into memory: uint8 on disk, float32 in [-1, 1] where they are used."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from fewstep.data.formats.reading import readable

RELEASE_AFTER = 256 << 20  # bytes of a mapping that may count as this process's memory at once
_READ_AROUND = 128 << 10  # bytes that the system maps besides those of a row: it maps 64 KiB around each page


class MappedImages:
    """Images of an .npy file, uint8 [N, C, H, W], which index like a tensor along their first axis.

    `images[key]` is float32, x/127.5 − 1, for a slice, an int64 tensor of rows, or a row's number; nothing else of
    the file is read. Copies that are sent to other processes map the same file.

    Args:
        path: the file.
        rows: int64 [n], which of the file's images these are, in order; None for all of them.

    Attributes:
        shape: (n, C, H, W).
        grey_levels: 256, on which bytes lie whatever they are.

    Raises:
        UserError: the file is missing or damaged.
    """

    grey_levels = 256

    def __init__(self, path: Path, rows: Tensor | None = None) -> None:
        self.path = Path(path)
        self._map, self._file = _mapped(self.path)
        self._rows = torch.arange(len(self._file)) if rows is None else rows
        self._touched = 0
        self.shape: tuple[int, int, int, int] = (len(self._rows), *self._file.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice | Tensor | int) -> Tensor:
        """Float32 [n, C, H, W], or [C, H, W] for one row's number."""
        rows = self._rows[key.cpu() if isinstance(key, Tensor) else key].numpy()
        pixels = torch.from_numpy(np.array(self._file[rows]))
        self._release(rows.size)
        return pixels.to(torch.float32).div_(127.5).sub_(1)

    def __reduce__(self) -> tuple[Callable[..., "MappedImages"], tuple[Path, Tensor]]:
        return MappedImages, (self.path, self._rows)

    def _release(self, rows: int) -> None:
        """Hand back the pages that were read, from time to time: they stay in the system's cache."""
        self._touched += rows * (self._file[0].nbytes + _READ_AROUND)
        if self._touched > RELEASE_AFTER and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0


def _mapped(path: Path) -> tuple[mmap.mmap, NDArray[Any]]:
    """A file's mapping, and its array in it."""
    with readable(path, "images"), path.open("rb") as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("it is not of NumPy's format 1.0")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
        if dtype != np.uint8 or len(shape) != 4 or fortran or min(shape) < 1:
            raise ValueError(f"it holds {dtype} of shape {list(shape)}")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return content, np.frombuffer(content, np.uint8, offset=file.tell()).reshape(shape)
