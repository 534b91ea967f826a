"""Statistics on disk: a safetensors file whose header says, as JSON, what is no tensor."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.process import Process

Sizes = tuple[str | int, ...]
_HEADER = "fewstep"
_INTEGERS = ("indices", "labels", "first", "second")  # int64
_SINGLES = ("denoised",)  # float32: a network's own numbers, too many for float64
_DTYPES = dict.fromkeys(_INTEGERS, torch.int64) | dict.fromkeys(_SINGLES, torch.float32)


class Stored(NamedTuple):
    """What a file of statistics holds."""

    process: Process
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write_statistics(
    path: Path, kind: str, process: Process, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write a kind's tensors and JSON-able facts."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {_HEADER: json.dumps({**facts, "process": process.definition, "kind": kind})}
    write_atomically(path, lambda temporary: save_file(whole, temporary, header))


def read_statistics(
    path: Path,
    kind: str,
    sizes: Mapping[str, Sizes],
    facts: Mapping[str, type],
    optional: Mapping[str, Sizes] = MappingProxyType({}),
) -> Stored:
    """Read what `write_statistics` wrote.

    Args:
        path: the file.
        kind: the kind that it must be of.
        sizes: tensor → the name of each of its sizes, such as ("timesteps", 2, "images"); equal names are
            equal sizes. All are finite, and float64 but for those of `_INTEGERS`, int64, and of `_SINGLES`,
            float32; `indices` ascend, 1 … T.
        facts: fact → its type, `int` (at least 0) or `str`.
        optional: as `sizes`, of tensors that may be absent.

    Raises:
        UserError: the file is missing, damaged, of another kind, or its content is not as stated.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            if not isinstance(header, dict):
                raise UserError("Its header is no JSON object.")
            if header.get("kind") != kind:
                raise UserError(f"It does not hold statistics of the kind {kind}.")
            process = Process.from_definition(header["process"])
            present = [name for name in optional if name in file.keys()]  # noqa: SIM118, it is no mapping
            tensors = {name: file.get_tensor(name) for name in [*sizes, *present]}
        _check_facts(header, facts)
        _check_tensors(tensors, {**sizes, **optional})
        if "indices" in tensors:
            _check_indices(tensors["indices"], process)
        return Stored(process, tensors, {name: header[name] for name in facts})
    except UserError as error:
        raise UserError(f"The statistics file {path} cannot be used. {error}") from None
    except KeyError as error:
        raise UserError(f"The statistics file {path} cannot be read: it lacks {error}.") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"The statistics file {path} cannot be read: {error}.") from None


def kind_of(path: Path) -> str:
    """The kind of statistics that a file holds.

    Raises:
        UserError: the file is missing, or does not say.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return str(json.loads((file.metadata() or {})[_HEADER])["kind"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The statistics file {path} cannot be read: {error}.") from None


def _check_facts(header: Mapping[str, Any], facts: Mapping[str, type]) -> None:
    for name, kind in facts.items():
        value = header[name]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            allowed = "a whole number from 0" if kind is int else "text"
            raise UserError(f"Its {name} is {value!r}, but must be {allowed}.")


def _check_tensors(tensors: Mapping[str, Tensor], sizes: Mapping[str, Sizes]) -> None:
    known: dict[str, int] = {}
    for name, tensor in tensors.items():
        dtype = _DTYPES.get(name, torch.float64)
        if tensor.dtype != dtype:
            raise UserError(f"Its {name} holds {tensor.dtype} instead of {dtype}.")
        named = {size: n for size, n in zip(sizes[name], tensor.shape, strict=False) if isinstance(size, str)}
        shape = [known.setdefault(size, n) for size, n in named.items()]
        if list(tensor.shape) != [known.get(str(size), size) for size in sizes[name]] or 0 in shape:
            words = ", ".join(f"{size} = {known[size]}" if size in known else str(size) for size in sizes[name])
            raise UserError(f"Its {name} has shape {list(tensor.shape)} instead of [{words}], each at least 1.")
        # A sum is finite only if its terms are, and takes a third of the time.
        if not bool(tensor.sum().isfinite() or tensor.isfinite().all()):
            raise UserError(f"Its {name} holds NaN or infinity.")


def _check_indices(indices: Tensor, process: Process) -> None:
    if indices[0] < 1 or indices[-1] > process.T or not bool((indices.diff() > 0).all()):
        raise UserError(f"Its indices must ascend within 1 … {process.T}; given were {indices.tolist()[:5]}, ….")
