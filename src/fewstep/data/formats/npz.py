"""Arrays of NumPy's .npz files in blocks of rows, however large the file; never Python objects."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fewstep.data.formats.archives import opened_zip
from fewstep.data.formats.reading import readable
from fewstep.errors import UserError

KIND = "an .npz file"


def array_shape(path: Path, name: str, dtype: type[Any], largest: int) -> tuple[int, ...]:
    """The shape of the array `name`, of which only the header is read. Arguments and errors as of
    `array_blocks`."""
    with _opened(path, name, dtype, largest) as (shape, _, _):
        return shape


def array_blocks(path: Path, name: str, dtype: type[Any], largest: int, rows: int) -> Iterator[NDArray[Any]]:
    """The array `name` in blocks of at most `rows` rows.

    Args:
        path: the file.
        name: the array's.
        dtype: what it must be an array of; any integer will do for np.integer.
        largest: bytes that any array in the file may have.
        rows: of a block.

    Raises:
        UserError: it is no such file, holds no such array, or one of objects, of another type, in Fortran's order,
            or of another size than its header says.
    """
    with _opened(path, name, dtype, largest) as (shape, found, stream):
        row = math.prod(shape[1:]) * found.itemsize
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            content = stream.read(count * row)
            if len(content) < count * row:
                raise UserError(f"{path} is cut short in the array {name}.")
            yield np.frombuffer(content, found).reshape(count, *shape[1:])


@contextmanager
def _opened(
    path: Path, name: str, dtype: type[Any], largest: int
) -> Iterator[tuple[tuple[int, ...], np.dtype[Any], IO[bytes]]]:
    """Shape and type of an array, and the stream that its numbers follow in."""
    with opened_zip(path, largest) as archive, readable(path, KIND):
        if f"{name}.npy" not in archive.namelist():
            raise UserError(f"{path} holds no array called {name}.")
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as stream:
            if npy.read_magic(stream) != (1, 0):  # a longer header may be of any size
                raise UserError(f"The array {name} of {path} is not of NumPy's format 1.0.")
            shape, fortran, found = npy.read_array_header_1_0(stream)
            if found.hasobject:
                raise UserError(f"The array {name} of {path} holds Python objects, which could run code.")
            if not np.issubdtype(found, dtype) or fortran or not shape:
                raise UserError(
                    f"The array {name} of {path} is of {found} with shape {list(shape)}; it must be of "
                    f"{dtype.__name__}, in rows."
                )
            if stream.tell() + math.prod(shape) * found.itemsize != member.file_size or min(shape) < 1:
                raise UserError(f"The array {name} of {path} has another size than its shape {list(shape)}.")
            yield shape, found, stream
