"""A source's images as uint8 in files of their own: made once, then mapped, however large the set.

`<cache folder>/<name>-<key>/` holds `<part>_images.npy`, `<part>_labels.npy` and `facts.json`; the key is of the
source's files (path, size, time of change) and of the settings that they are read with. The folder is made under a
lock and under another name, so that it is whole or absent.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from fewstep.data.mapped import MappedImages
from fewstep.errors import UserError

log = logging.getLogger(__name__)

FORMAT = 1
FACTS = "facts.json"
FOLDER = "fewstep-cache"

Block = tuple[NDArray[np.uint8], NDArray[np.int64] | None]


class Part(NamedTuple):
    """Images that are kept together, in their source's order.

    Attributes:
        length: N, how many there are.
        blocks: uint8 [n, C, H, W] and, where there are classes, int64 [n]; of N images together, read once.
    """

    length: int
    blocks: Iterable[Block]


class Source(NamedTuple):
    """Files, and what reads them into parts: `train` and others."""

    files: Sequence[Path]
    read: Callable[[], Mapping[str, Part]]


class Split(NamedTuple):
    """A split's images, and its labels, int64 [N], where there are classes."""

    images: MappedImages
    labels: Tensor | None


@dataclass(frozen=True)
class Cache:
    """A folder that holds a source's parts.

    Attributes:
        folder: the folder.
        data_std: root-mean-square over pixels of the standard deviation over the images of the part `train`, which
            are in [-1, 1].
    """

    folder: Path
    data_std: float

    def split(self, part: str, rows: Tensor | None = None) -> Split:
        """A part, or its images and labels of some rows."""
        try:
            images = MappedImages(self.folder / f"{part}_images.npy", rows)
            path = self.folder / f"{part}_labels.npy"
            labels = torch.from_numpy(np.load(path, allow_pickle=False)) if path.exists() else None
        except (UserError, OSError, ValueError, EOFError) as error:
            raise self._damaged(error) from None
        if labels is not None and (labels.dtype != torch.int64 or labels.ndim != 1):
            raise self._damaged(f"{path.name} holds no labels")
        return Split(images, labels if labels is None or rows is None else labels[rows])

    def _damaged(self, reason: object) -> UserError:
        return UserError(f"The cache {self.folder} is damaged; remove it, and it is made anew. ({reason})")


def cached(
    folder: Path, name: str, shape: tuple[int, int, int], source: Source, settings: Mapping[str, Any]
) -> Cache:
    """The cache of a source, made if it is not there yet; processes that ask at once wait for the first one.

    Args:
        folder: where caches are.
        name: the data set's.
        shape: (C, H, W) of its images.
        source: its files.
        settings: plain data, what else decides what the images are.

    Raises:
        UserError: a file of the source is missing or damaged, or the folder cannot be written or has no room.
    """
    made = folder / f"{name}-{_key(source.files, settings)}"
    if not made.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{made.name}.lock"):
                if not made.is_dir():
                    _make(made, shape, source)
        except OSError as error:  # those of reading are UserErrors by now
            reason = error.strerror or str(error)
            raise UserError(
                f"The images of {name} cannot be kept in {folder} ({reason}); set dataset.cache to a folder that "
                "can be written and has room."
            ) from error
    try:
        facts = json.loads((made / FACTS).read_text(encoding="utf-8"))
        return Cache(made, float(facts["data_std"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"The cache {made} is damaged; remove it, and it is made anew.") from None


def cache_folder(given: str | None, path: Path) -> Path:
    """The setting `dataset.cache`, or else a folder beside the data."""
    return Path(given).expanduser() if given is not None else path.absolute().parent / FOLDER


def _key(files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode())
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}).") from None
        digest.update(
            f"\n{file.absolute()}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()[:12]


def _make(made: Path, shape: tuple[int, int, int], source: Source) -> None:
    unfinished = made.with_name(f".{made.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    parts = source.read()
    needed = sum(part.length for part in parts.values()) * int(np.prod(shape))
    free = shutil.disk_usage(made.parent).free
    if needed > free:
        raise UserError(
            f"The images need {needed / 1e9:.1f} GB in {made.parent}, which has {free / 1e9:.1f} GB left; set "
            "dataset.cache to a folder with more room."
        )
    log.info("dataset     %s: %.1f GB, once", made, needed / 1e9)
    unfinished.mkdir()
    try:
        stds = {name: _write(unfinished, name, shape, part) for name, part in parts.items()}
        _synced(unfinished / FACTS, json.dumps({"data_std": stds["train"]}).encode())
        unfinished.replace(made)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, name: str, shape: tuple[int, int, int], part: Part) -> float:
    """Write a part's files; returns its `data_std`."""
    total, squares = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)
    labels, length = [], 0
    path = folder / f"{name}_images.npy"
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (part.length, *shape)})
        for pixels, classes in part.blocks:
            length += len(pixels)
            file.write(np.ascontiguousarray(pixels).tobytes())
            total += pixels.sum(0, dtype=np.uint64)
            squares += np.square(pixels, dtype=np.uint32).sum(0, dtype=np.uint64)
            labels += [] if classes is None else [classes]
        if length != part.length:
            raise UserError(f"The source of {folder.parent} said {part.length} {name} images, but has {length}.")
        file.flush()
        os.fsync(file.fileno())
    if labels:
        with (folder / f"{name}_labels.npy").open("wb") as file:
            np.save(file, np.concatenate(labels).astype(np.int64))
            file.flush()
            os.fsync(file.fileno())
    mean = total / length
    variance = (squares / length - mean**2) * (length / max(length - 1, 1))
    return float(np.sqrt(variance.mean()) / 127.5)


def _synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
