"""ImageNet at 64×64 (Chrabaszcz, Loshchilov, Hutter 2017, arXiv 1707.08819; van den Oord et al. 2016)."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewstep.data.cache import Block, Part, Source, Split, cache_folder, cached
from fewstep.data.formats.class_labels import class_labels, class_names
from fewstep.data.formats.npz import array_blocks, array_shape
from fewstep.data.formats.parquet import blocks_of_parquet, count_rows, parquet_files
from fewstep.data.formats.picture_files import files_of, picture_names
from fewstep.data.formats.pictures import pixels
from fewstep.data.formats.reading import check_file, check_labels, files_like, readable
from fewstep.data.hub import fetched
from fewstep.data.picture_parts import part_of_pictures
from fewstep.data.splits import FilesInSplits, official_splits
from fewstep.errors import UserError

SHAPE = (3, 64, 64)
CLASSES = 1000
_PIXELS = 64 * 64 * 3
_MOST_IMAGES = 1_281_167  # of the training set
_LARGEST_ARRAY = _MOST_IMAGES * _PIXELS + 65_536  # bytes, with its header
_ROWS = 512
_PARQUET = {"train": ("train",), "test": ("validation", "val", "valid")}
_PICTURES = {
    "train": ("train_64x64", "train", "train_64x64.zip", "train.zip"),
    "test": (
        "valid_64x64", "val_64x64", "val", "valid", "validation",
        "valid_64x64.zip", "val_64x64.zip", "val.zip", "valid.zip", "validation.zip",
    ),
}  # fmt: skip


class ImageNet64(FilesInSplits):
    """1,271,167 training and 10,000 validation images of the official training set, and the official validation
    set as test: 50,000 (49,999 in van den Oord's version); [3, 64, 64], with labels 0 … 999.

    Args:
        path: a folder with `train_data_batch_1.npz` … `train_data_batch_10.npz` and `val_data.npz`; with parquet
            files `train-*` and `validation-*`; or with pictures in `train_64x64` and `valid_64x64` (or `train` and
            `val`), folders or zip archives.
        hub: a data set of the Hugging Face hub, whose parquet files are fetched into `path` if there is nothing.
        synsets: of the .npz files: their `map_clsloc.txt` (`n02119789 1 kit_fox`, …), which turns their own order
            of classes into that of the synsets' names, which class-conditional models use; None: as the files have
            it.
        validation: images held out of the official training set.
        cache: folder for the unpacked images, 16 GB; None: `fewstep-cache` beside `path`.
    """

    name = "imagenet64"
    shape = SHAPE
    levels = 256

    def __init__(
        self,
        path: str,
        hub: str | None = None,
        synsets: str | None = None,
        validation: int = 10_000,
        cache: str | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.hub = hub
        self.synsets = None if synsets is None else Path(synsets).expanduser()
        self.validation = validation
        self.cache = cache

    def read(self) -> dict[str, Split]:
        source = imagenet64_source(fetched(self.path, self.hub), self.synsets)
        cache = cached(cache_folder(self.cache, self.path), self.name, self.shape, source, {})
        return official_splits(cache, self.validation, self.name)


def imagenet64_source(path: Path, synsets: Path | None) -> Source:
    """What lies in the folder `path`: .npz files, parquet files, or pictures.

    Raises:
        UserError: none of them, or not all of them.
    """
    if files_like(path, "train_data_batch_*.npz"):
        return _npz_source(path, synsets)
    if synsets is not None:
        raise UserError(
            f"dataset.synsets is {synsets}, but there are no .npz files in {path} whose classes it orders."
        )
    parquet = {part: parquet_files(path, names) for part, names in _PARQUET.items()}
    if all(parquet.values()):
        files = [file for part in parquet.values() for file in part]
        return Source(files, lambda: {part: _part_of_parquet(found) for part, found in parquet.items()})
    pictures = {
        part: [path / name for name in names if (path / name).exists()] for part, names in _PICTURES.items()
    }
    if all(pictures.values()):
        return _picture_source(pictures["train"][0], pictures["test"][0])
    raise UserError(
        f"dataset.path is {path}, where there is no ImageNet64: neither train_data_batch_1.npz to _10.npz and "
        "val_data.npz, nor parquet files train-* and validation-*, nor pictures in train_64x64 and valid_64x64."
    )


def _part_of_parquet(files: list[Path]) -> Part:
    return Part(sum(count_rows(file) for file in files), blocks_of_parquet(files, SHAPE[1], range(CLASSES)))


def _picture_source(train: Path, test: Path) -> Source:
    names = {folder: picture_names(folder) for folder in (train, test)}

    def part(folder: Path) -> Part:
        labels = class_labels(folder, names[folder], class_names(names[train]))
        return part_of_pictures(folder, names[folder], SHAPE[1], pixels, labels)

    files = [file for folder in (train, test) for file in files_of(folder, names[folder])]
    return Source(files, lambda: {"train": part(train), "test": part(test)})


def _npz_source(path: Path, synsets: Path | None) -> Source:
    names = {"train": [f"train_data_batch_{n}.npz" for n in range(1, 11)], "test": ["val_data.npz"]}
    files = {part: [_only(path, name) for name in found] for part, found in names.items()}

    def read() -> dict[str, Part]:
        order = np.arange(CLASSES) if synsets is None else _synset_order(synsets)
        return {part: _part_of_npz(found, order) for part, found in files.items()}

    every = [file for part in files.values() for file in part]
    return Source(every if synsets is None else [*every, check_file(synsets)], read)


def _only(folder: Path, name: str) -> Path:
    found = files_like(folder, name)
    if len(found) != 1:
        raise UserError(f"{folder} holds {name} {len(found)} times, but must hold it once.")
    return check_file(found[0])


def _part_of_npz(files: list[Path], order: NDArray[np.int64]) -> Part:
    lengths = [_length(file) for file in files]
    if sum(lengths) > _MOST_IMAGES:
        raise UserError(f"{files[0].parent} claims {sum(lengths):,} images; ImageNet has {_MOST_IMAGES:,}.")
    return Part(sum(lengths), _blocks_of_npz(files, order))


def _length(file: Path) -> int:
    data = array_shape(file, "data", np.uint8, _LARGEST_ARRAY)
    labels = array_shape(file, "labels", np.integer, _LARGEST_ARRAY)
    if len(data) != 2 or data[1] != _PIXELS or labels != data[:1]:
        raise UserError(
            f"The arrays data and labels of {file} have shapes {list(data)} and {list(labels)}; they must be "
            f"[N, {_PIXELS}] and [N]."
        )
    return data[0]


def _blocks_of_npz(files: list[Path], order: NDArray[np.int64]) -> Iterator[Block]:
    """Rows of 4,096 red, green and blue pixels; labels 1 … 1000."""
    for file in files:
        (labels,) = array_blocks(file, "labels", np.integer, _LARGEST_ARRAY, _MOST_IMAGES)
        check_labels(labels.tolist(), len(labels), range(1, CLASSES + 1), file)
        first = 0
        for rows in array_blocks(file, "data", np.uint8, _LARGEST_ARRAY, _ROWS):
            classes = labels[first : first + len(rows)].astype(np.int64) - 1
            yield rows.reshape(-1, *SHAPE), order[classes]
            first += len(rows)


def _synset_order(path: Path) -> NDArray[np.int64]:
    """Class of the files, from 0 → rank of its synset's name, from lines `n02119789 1 kit_fox`."""
    with readable(check_file(path), "a list of synsets"):
        lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [re.match(r"(n\d{8}) (\d{1,4})( |$)", line) for line in lines if line.strip()]
    numbered = {int(pair.group(2)): pair.group(1) for pair in pairs if pair}
    if sorted(numbered) != list(range(1, CLASSES + 1)) or len(set(numbered.values())) < CLASSES:
        raise UserError(f"{path} must list {CLASSES} synsets, each in a line such as 'n02119789 1 kit_fox'.")
    rank = {synset: number for number, synset in enumerate(sorted(numbered.values()))}
    return np.array([rank[numbered[number]] for number in range(1, CLASSES + 1)], np.int64)
