"""CIFAR-10 (Krizhevsky 2009): 60,000 32×32 colour pictures of ten classes, from the files that people
have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.cache import Block, Part, Source, Split, cache_folder, cached
from fewstep.data.formats.archives import tar_gz_members
from fewstep.data.formats.batch_pickle import read_batch
from fewstep.data.formats.parquet import blocks_of_parquet, count_rows, parquet_files
from fewstep.data.formats.reading import check_file, check_labels, check_md5, readable
from fewstep.data.hub import fetched
from fewstep.data.splits import FilesInSplits, official_splits
from fewstep.errors import UserError

SHAPE = (3, 32, 32)
MD5 = "c58f30108f718f92721af3b95e74349a"  # of cifar-10-python.tar.gz
FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}
_CLASSES = range(10)
_LARGEST_BATCH = 64 << 20  # bytes; one has 31,035,704 or a few fewer
_LARGEST_TAR = 512 << 20  # bytes, unpacked; it has some 186 million


class Cifar10(FilesInSplits):
    """45,000 training and 5,000 validation images of the official training set, and the 10,000 official test
    images, [3, 32, 32]. Labels: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.

    Args:
        path: the folder `cifar-10-batches-py` or one that holds it; the archive `cifar-10-python.tar.gz`; or a
            folder of parquet files (`train-*.parquet`, `test-*.parquet`, columns img and label).
        hub: a data set of the Hugging Face hub, such as uoft-cs/cifar10, whose parquet files are fetched into
            `path` if there is nothing.
        md5: of the archive; None: not checked.
        validation: images held out of the official training set.
        cache: folder for the unpacked images; None: `fewstep-cache` beside `path`.
    """

    name = "cifar10"
    shape = SHAPE
    levels = 256

    def __init__(
        self,
        path: str,
        hub: str | None = None,
        md5: str | None = MD5,
        validation: int = 5000,
        cache: str | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.hub = hub
        self.md5 = md5
        self.validation = validation
        self.cache = cache

    def read(self) -> dict[str, Split]:
        source = cifar10_source(fetched(self.path, self.hub), self.md5)
        settings: Mapping[str, Any] = {"md5": self.md5}
        cache = cached(cache_folder(self.cache, self.path), self.name, self.shape, source, settings)
        return official_splits(cache, self.validation, self.name)


def cifar10_source(path: Path, md5: str | None) -> Source:
    """What lies at `path`: batches, the archive, or parquet files.

    Raises:
        UserError: none of them.
    """
    if path.is_file():
        return Source([path], lambda: _parts_of_archive(path, md5))
    for folder in (path, path / FOLDER):
        if (folder / BATCHES["train"][0]).exists():
            return _batches_source(folder)
    found = {part: parquet_files(path, [part]) for part in BATCHES}
    if all(found.values()):
        files = [file for part in found.values() for file in part]
        return Source(files, lambda: {part: _part_of_parquet(files) for part, files in found.items()})
    raise UserError(
        f"dataset.path is {path}, where there is no CIFAR-10: neither the folder {FOLDER}, nor the archive "
        "cifar-10-python.tar.gz, nor parquet files train-*.parquet and test-*.parquet."
    )


def _batches_source(folder: Path) -> Source:
    files = [check_file(folder / name) for names in BATCHES.values() for name in names]
    return Source(files, lambda: _parts_of_batches({file.name: _content(file) for file in files}, folder))


def _parts_of_archive(path: Path, md5: str | None) -> dict[str, Part]:
    check_md5(check_file(path), md5)
    wanted = [f"{FOLDER}/{name}" for names in BATCHES.values() for name in names]
    members = tar_gz_members(path, wanted, _LARGEST_BATCH, _LARGEST_TAR)
    return _parts_of_batches({name.rpartition("/")[2]: content for name, content in members}, path)


def _content(file: Path) -> bytes:
    with readable(file, "a file"):
        if file.stat().st_size > _LARGEST_BATCH:
            raise UserError(
                f"{file} has {file.stat().st_size:,} bytes; a CIFAR batch has at most {_LARGEST_BATCH:,}."
            )
        return file.read_bytes()


def _parts_of_batches(contents: Mapping[str, bytes], where: Path) -> dict[str, Part]:
    """Parts of the six pickles' contents by file name; 180 MB at most times."""
    parts = {}
    for part, names in BATCHES.items():
        missing = [name for name in names if name not in contents]
        if missing:
            raise UserError(f"{where} holds no {missing[0]}: it is not whole.")
        blocks = [_batch(contents[name], where / name) for name in names]
        parts[part] = Part(sum(len(images) for images, _ in blocks), blocks)
    return parts


def _batch(content: bytes, where: Path) -> Block:
    """Uint8 [n, 3, 32, 32] and int64 [n]: rows of 1,024 red, 1,024 green and 1,024 blue pixels."""
    batch = read_batch(content, where)
    data, labels = batch.get(b"data"), batch.get(b"labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or len(data) == 0:
        raise UserError(f"{where} holds no b'data' of 3,072 bytes per image.")
    if not isinstance(labels, list):
        raise UserError(f"{where} holds no list b'labels'.")
    check_labels(labels, len(data), _CLASSES, where)
    return data.reshape(-1, *SHAPE), np.array(labels, np.int64)


def _part_of_parquet(files: list[Path]) -> Part:
    return Part(sum(count_rows(file) for file in files), blocks_of_parquet(files, SHAPE[1], _CLASSES))
