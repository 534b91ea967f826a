"""Mapped images index like the tensor that they stand for, and do not fill the memory."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.data import mapped
from fewstep.data.mapped import MappedImages
from fewstep.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 3, 4, 5), dtype=np.uint8)
KEYS = [
    slice(None),
    slice(2, 7),
    slice(None, 100),
    slice(-3, None),
    slice(1, 9, 3),
    slice(5, 5),
    torch.tensor([3, 0, 3, 10]),
    torch.tensor([-1, -11]),
    torch.tensor([], dtype=torch.int64),
    4,
    -2,
]


@pytest.mark.parametrize("rows", [None, torch.tensor([7, 1, 1, 0, 10, 4, 3, 2, 9, 8, 6])])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_that_of_the_tensor(
    key: Any, rows: Tensor | None, npy: Callable[[Any], Path], as_images: Callable[[Any], Tensor]
) -> None:
    images = MappedImages(npy(PIXELS), rows)
    tensor = as_images(PIXELS) if rows is None else as_images(PIXELS)[rows]
    assert images.shape == tuple(tensor.shape)
    assert len(images) == len(tensor)
    assert images[key].dtype == torch.float32
    assert torch.equal(images[key], tensor[key])
    assert torch.equal(pickle.loads(pickle.dumps(images))[key], tensor[key])


def test_every_grey_level_is_where_it_belongs(npy: Callable[[Any], Path]) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    values = MappedImages(npy(levels))[:].flatten().double()
    torch.testing.assert_close((values + 1) * 127.5, torch.arange(256.0).double(), rtol=0, atol=1e-4)
    assert values[0] == -1
    assert values[255] == 1


def test_rows_that_are_not_there_are_an_error_of_indexing(npy: Callable[[Any], Path]) -> None:
    images = MappedImages(npy(PIXELS))
    for key in (11, torch.tensor([11]), torch.tensor([-12])):
        with pytest.raises(IndexError):
            images[key]


def test_a_result_may_be_changed_without_changing_the_file(npy: Callable[[Any], Path]) -> None:
    images = MappedImages(npy(PIXELS))
    images[:].zero_()
    assert torch.equal(images[:], MappedImages(images.path)[:])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory of files")
def test_pages_that_were_read_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, n = tmp_path / "images.npy", 4096
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (n, 3, 64, 64)}
        )
        file.truncate(file.tell() + n * 3 * 64 * 64)  # 48 MiB, of which the disk holds nothing
    monkeypatch.setattr(mapped, "RELEASE_AFTER", 4 << 20)
    images, before = MappedImages(path), _file_pages()
    for first in range(0, n, 256):
        images[first : first + 256]
    assert _file_pages() - before < 24 << 20


def _file_pages() -> int:
    """Bytes of files in this process's memory."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "RssFile" in line]
    return int(line.split()[1]) << 10


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4)),
        np.zeros((2, 3, 4), np.uint8),
        np.zeros((2, 3, 4, 4), np.int16),
        np.asfortranarray(np.zeros((2, 3, 4, 4), np.uint8)),
        np.zeros((0, 3, 4, 4), np.uint8),
        np.array([[[[{}]]]], dtype=object),
    ],
    ids=str,
)
def test_another_array_is_refused(array: Any, npy: Callable[[Any], Path]) -> None:
    with pytest.raises(UserError, match=r"images\.npy cannot be read"):
        MappedImages(npy(array))


@pytest.mark.parametrize("length", [0, 5, 60, 200])
def test_a_file_that_was_cut_short_is_refused(length: int, npy: Callable[[Any], Path]) -> None:
    path = npy(PIXELS)
    os.truncate(path, length)
    with pytest.raises(UserError, match=r"images\.npy cannot be read"):
        MappedImages(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        MappedImages(tmp_path / "nothing.npy")
