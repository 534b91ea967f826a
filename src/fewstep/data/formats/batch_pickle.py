"""CIFAR's batches: Python-2 pickles of a dict, read without running anything that a pickle names.

A pickle is a programme. Before it is unpickled its instructions are listed: those that a batch does not need, and
the names of anything but NumPy's array and data type, are refused. The two are then replaced by inert stand-ins
that only keep what they are given, so that no code of NumPy's runs on unchecked values either.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.data.formats.reading import readable
from fewstep.errors import UserError
from fewstep.provenance import shown

_NESTING = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "BUILD"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_INSTRUCTIONS = _NESTING | _PUTS | {
    "PROTO", "STOP", "MARK", "POP", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST",
    "APPEND", "APPENDS", "EMPTY_TUPLE", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1",
    "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "GET", "BINGET", "LONG_BINGET", "GLOBAL",
}  # fmt: skip
_MOST_NESTING = 100  # a batch has about ten; deeply nested tuples overflow the interpreter's stack
_MOST_REMEMBERED = 1 << 20  # the memo is a table as long as its largest index


class _Array:
    """Stands in for an array that is being rebuilt."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _DataType(_Array):
    """Stands in for `numpy.dtype`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.name = arguments[0] if arguments else None


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        return _STAND_INS[module, name]


def read_batch(content: bytes, path: Path | str) -> dict[bytes, Any]:
    """The dict that a batch holds; every array of bytes in it is uint8, of the shape that it states.

    Args:
        content: the pickle.
        path: what it is called in an error.

    Raises:
        UserError: it is no such pickle, or names code to run, which has not been run.
    """
    with readable(path, "a CIFAR batch"):
        _check_instructions(content, path)
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(batch, dict):
            raise UserError(f"{path} holds no dict, and so is no CIFAR batch.")
        return {key: _array(value, path) if isinstance(value, _Array) else value for key, value in batch.items()}


def _check_instructions(content: bytes, path: Path | str) -> None:
    nested = 0
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _STAND_INS:
            named = shown(str(argument).replace(" ", "."))
            raise UserError(f"{path} names {named}, which no CIFAR batch does; it was not run.")
        nested += instruction.name in _NESTING
        if instruction.name not in _INSTRUCTIONS or nested > _MOST_NESTING:
            raise UserError(f"{path} is a pickle with {instruction.name}, as no CIFAR batch is; it was not run.")
        if instruction.name in _PUTS and int(argument or 0) > _MOST_REMEMBERED:
            raise UserError(f"{path} is a pickle that asks for more memory than any CIFAR batch.")


def _array(stand_in: _Array, path: Path | str) -> NDArray[np.uint8]:
    """The array of bytes that a stand-in was told of: (version, shape, data type, Fortran order, bytes)."""
    _, shape, data_type, fortran, content = stand_in.state
    if not isinstance(data_type, _DataType) or data_type.name not in (b"u1", "u1", b"|u1", "|u1"):
        raise UserError(f"{path} holds an array of other numbers than bytes (uint8).")
    if not isinstance(content, bytes) or not all(type(size) is int and size >= 0 for size in shape):
        raise UserError(f"{path} holds an array without its bytes or its shape.")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
