"""Pictures and labels from parquet files as the Hugging Face hub has them: a column of {bytes, path}, one of
labels.

Needs pyarrow (`pip install 'fewstep[data]'`).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.data.formats.pictures import pixels
from fewstep.data.formats.reading import check_file, check_labels, files_like, readable
from fewstep.errors import UserError
from fewstep.provenance import shown

KIND = "a parquet file of pictures"
LABEL = "label"
_COLUMNS = ("img", "image")  # CIFAR-10's, and nearly all others'
_LARGEST_GROUP = 1 << 30  # bytes of a row group, unpacked
_ROWS = 256  # read at once


def parquet_files(folder: Path, splits: Sequence[str]) -> list[Path]:
    """The parquet files of the first of `splits` that a folder has any of, in order; [] for none.

    Raises:
        UserError: of files numbered `…-00000-of-00004.parquet` some are missing.
    """
    for split in splits:
        found = files_like(folder, f"{split}-*.parquet") or files_like(folder, f"{split}.parquet")
        for file in found:
            counted = re.search(r"-of-(\d{1,6})\.parquet$", file.name)
            if counted and len(found) != int(counted.group(1)):
                raise UserError(
                    f"{folder} has {len(found)} of the {int(counted.group(1))} parquet files of {split}."
                )
        if found:
            return found
    return []


def count_rows(file: Path) -> int:
    """How many pictures a file has, from its footer alone."""
    with readable(check_file(file), KIND):
        return int(_opened(file).metadata.num_rows)


def blocks_of_parquet(
    files: Sequence[Path], size: int, classes: range
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Blocks of uint8 [n, 3, size, size] and int64 [n], in order.

    Raises:
        UserError: a file is no such file, or has pictures of another size or labels that are not in `classes`; or
            pyarrow is not installed.
    """
    for file in files:
        first = 0
        for pictures, labels in _batches(file):
            check_labels(labels, len(pictures), classes, file)
            named = enumerate(pictures, first)
            images = [pixels(content, size, f"{file} (picture {number})") for number, content in named]
            yield np.stack(images), np.array(labels, np.int64)
            first += len(pictures)


def _batches(file: Path) -> Iterator[tuple[list[bytes], list[Any]]]:
    """Pictures' bytes and labels of some rows after another."""
    with readable(check_file(file), KIND):
        opened = _opened(file)
        names = opened.schema_arrow.names
        column = next((name for name in _COLUMNS if name in names), None)
        if column is None or LABEL not in names:
            raise UserError(
                f"{file} has the columns {shown(', '.join(names))}; it must have {LABEL}, and "
                f"{' or '.join(_COLUMNS)}."
            )
        for group in range(opened.num_row_groups):
            unpacked = opened.metadata.row_group(group).total_byte_size
            if not 0 <= unpacked <= _LARGEST_GROUP:
                raise UserError(f"{file} has rows of {unpacked:,} bytes; at most {_LARGEST_GROUP:,} are possible.")
        for batch in opened.iter_batches(_ROWS, columns=[column, LABEL], use_threads=False):
            cells = batch.column(column).to_pylist()
            found = [cell.get("bytes") if isinstance(cell, dict) else None for cell in cells]
            pictures = [content for content in found if isinstance(content, bytes)]
            if len(pictures) < len(cells):
                raise UserError(f"The column {column} of {file} is not one of pictures, {{bytes, path}}.")
            if pictures:
                yield pictures, batch.column(LABEL).to_pylist()


def _opened(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"Reading {file} needs pyarrow; install it with pip install 'fewstep[data]'.") from None
    return pyarrow.parquet.ParquetFile(file, memory_map=False, pre_buffer=False)
