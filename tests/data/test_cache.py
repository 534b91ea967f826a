"""Cached images are made once, whole or not at all, and anew where the files or settings have changed."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.data.base import data_std
from fewstep.data.cache import Block, Cache, Part, Source, cache_folder, cached
from fewstep.errors import UserError
from soak.official_files import random_pixels

PIXELS = random_pixels(10, 4, 0)
LABELS = np.arange(10)
SHAPE = (3, 4, 4)


class Counted:
    """A source of one file, which counts how often it is read."""

    def __init__(self, folder: Path, length: int = 10) -> None:
        self.file = folder / "source"
        self.file.write_bytes(b"original")
        self.length = length
        self.times = 0

    def read(self) -> dict[str, Part]:
        self.times += 1
        return {"train": Part(self.length, self.blocks())}

    def blocks(self) -> Iterator[Block]:
        for rows in (slice(0, 3), slice(3, 10)):
            yield PIXELS[rows], LABELS[rows]

    def cached(self, folder: Path, **settings: Any) -> Cache:
        return cached(folder, "name", SHAPE, Source([self.file], self.read), settings)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_what_is_kept_is_what_was_read(tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    cache = Counted(tmp_path).cached(tmp_path / "cache")
    images, labels = cache.split("train")
    assert torch.equal(images[:], as_images(PIXELS))
    assert torch.equal(labels, torch.arange(10))
    rows = torch.tensor([9, 0, 4])
    images, labels = cache.split("train", rows)
    assert torch.equal(images[:], as_images(PIXELS)[rows])
    assert torch.equal(labels, rows)
    assert cache.data_std == pytest.approx(data_std(as_images(PIXELS)), rel=1e-6)


def test_it_is_read_once_and_anew_where_a_file_or_a_setting_changed(tmp_path: Path) -> None:
    source, folder = Counted(tmp_path), tmp_path / "cache"
    first = source.cached(folder, size=4)
    assert source.cached(folder, size=4).folder == first.folder
    assert source.times == 1
    assert source.cached(folder, size=5).folder != first.folder
    os.utime(source.file, ns=(1, 1))
    assert source.cached(folder, size=4).folder != first.folder
    source.file.write_bytes(b"longer than the original")
    os.utime(source.file, ns=(1, 1))
    source.cached(folder, size=4)
    assert source.times == 4
    assert len(leftovers(folder)) == 4


def test_who_asks_at_once_waits_and_reads_nothing(tmp_path: Path) -> None:
    source, found = Counted(tmp_path), []
    threads = [threading.Thread(target=lambda: found.append(source.cached(tmp_path / "cache"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.times == 1
    assert len({cache.folder for cache in found}) == 1
    assert len(found) == 4


@pytest.mark.parametrize("length", [9, 11])
def test_a_source_that_miscounts_leaves_nothing(length: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"said {length} train images, but has 10"):
        Counted(tmp_path, length).cached(tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace", "numpy.save"])
def test_a_full_disk_is_a_sentence_and_the_next_try_succeeds(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source, folder = Counted(tmp_path), tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(moment, fail)
        with pytest.raises(
            UserError, match=r"cannot be kept in .*cache \(No space left on device\); set dataset\.cache"
        ):
            source.cached(folder)
    assert leftovers(folder) == []
    assert len(source.cached(folder).split("train").images) == 10


def test_a_process_that_was_killed_while_it_wrote_leaves_what_the_next_one_removes(tmp_path: Path) -> None:
    source, folder = Counted(tmp_path), tmp_path / "cache"
    made = source.cached(folder).folder
    made.rename(made.with_name(f".{made.name}.unfinished"))
    (made.with_name(f".{made.name}.unfinished") / "train_images.npy").write_bytes(b"half of it")
    assert len(source.cached(folder).split("train").images) == 10
    assert leftovers(folder) == [made.name]


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=479)  # of 480 bytes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match=r"need 0\.0 GB in .*; set dataset\.cache to a folder with more room"):
        Counted(tmp_path).cached(tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be kept in .*; set dataset\.cache"):
        Counted(tmp_path).cached(tmp_path / "file" / "cache")
    if Path("/proc/version").exists():
        with pytest.raises(UserError, match=r"cannot be kept in /proc/cache"):
            Counted(tmp_path).cached(Path("/proc/cache"))


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = Counted(tmp_path)
    source.file.unlink()
    with pytest.raises(UserError, match=r"source cannot be read \(No such file"):
        source.cached(tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("facts.json", b""),
        ("facts.json", b"{}"),
        ("facts.json", json.dumps({"data_std": None}).encode()),
        ("train_images.npy", b""),
        ("train_labels.npy", b"\x93NUMPY\x01\x00"),
        ("train_labels.npy", b"cos\nsystem\n(S'true'\ntR."),
    ],
)
def test_a_damaged_cache_says_that_it_may_be_removed(name: str, content: bytes, tmp_path: Path) -> None:
    source, folder = Counted(tmp_path), tmp_path / "cache"
    (source.cached(folder).folder / name).write_bytes(content)
    with pytest.raises(UserError, match="is damaged; remove it, and it is made anew"):
        source.cached(folder).split("train")


def test_it_lies_beside_the_data_unless_told_otherwise(tmp_path: Path) -> None:
    assert cache_folder(None, tmp_path / "data" / "cifar-10-batches-py") == tmp_path / "data" / "fewstep-cache"
    assert cache_folder("/elsewhere", tmp_path) == Path("/elsewhere")
