"""EDM's pickles: the objects in them as they were stored, without the source code that travels with them.

`torch_utils.persistence` stores an object as a call of `_reconstruct_persistent_obj` with the source of its
module, the name of its class, and its attributes, the constructor's arguments among them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.backbones.checkpoints.tensors import is_whole, load_plain
from fewstep.provenance import shown
from fewstep.restricted_pickle import Inert, Refused, StandIns, read_pickle

NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "b1": "?"}  # NumPy's types of numbers as `struct` has them
MOST_ARGUMENTS = 100  # in a list


@dataclass(frozen=True)
class Stored:
    """An object of the pickle.

    Attributes:
        name: its class, such as EDMPrecond.
        attributes: its state.
    """

    name: str
    attributes: dict[str, Any]

    def section(self, name: str) -> dict[str, Any]:
        """An attribute that is a mapping of names."""
        found = self.attributes.get(name)
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise Refused(f"stores a {self.name} without its {name}")
        return found

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        found = self.attributes.get(name)
        if not isinstance(found, int | float):
            raise Refused(f"stores a {self.name} without its {name}")
        return found

    @property
    def arguments(self) -> dict[str, Any]:
        """What its constructor was called with."""
        given = self.section("_init_kwargs")
        if self.attributes.get("_init_args"):
            raise Refused(f"stores a {self.name} that was made with arguments by position")
        for name, value in given.items():
            if not _is_plain(value):
                raise Refused(
                    f"stores a {self.name} whose argument {shown(name)} is no number, text or list of them"
                )
        return given

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by their dotted names, as in a state dict."""
        return dict(_tensors(self, "", set()))


class Container(Inert):
    """A torch.nn.ModuleDict, which torch pickles in its own way."""


class NumberType(Inert):
    """A numpy.dtype."""


def read_edm(path: Path) -> Stored:
    """The averaged network in an EDM pickle, its entry `ema`.

    Raises:
        UserError: the file is damaged or holds anything but what EDM's pickles hold.
        Refused: it has no network.
    """
    content = read_pickle(path, STAND_INS)
    if not isinstance(content, dict) or not isinstance(content.get("ema"), Stored):
        raise Refused("has no network under the name 'ema'")
    found: Stored = content["ema"]
    return found


def _persistent(meta: Any) -> Stored:
    """In place of torch_utils.persistence._reconstruct_persistent_obj."""
    name, state = (meta.get(key) if isinstance(meta, dict) else None for key in ("class_name", "state"))
    if not isinstance(name, str) or not isinstance(state, dict):
        raise Refused("stores an object without its class or without its attributes")
    return Stored(shown(name), state)


def _storage(content: Any) -> Tensor:
    """In place of torch.storage._load_from_bytes, which would unpickle anything: all numbers of a storage."""
    found = load_plain(BytesIO(content))
    if not isinstance(found, torch.storage.TypedStorage):
        raise Refused("has something else where the numbers of a tensor belong")
    return torch.empty(0, dtype=found.dtype).set_(found._untyped_storage)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """In place of torch._utils._rebuild_tensor_v2, which would lengthen a storage that is too short."""
    if not isinstance(storage, Tensor):
        raise Refused("has a tensor without numbers")
    found = storage.as_strided(size, stride, offset)
    if not is_whole(found):
        raise Refused("has a tensor that is not made of stored numbers")
    return found


def _parameter(data: Any, *_: Any) -> Any:
    """In place of torch._utils._rebuild_parameter."""
    return data


def _number(kind: Any, content: Any) -> float:
    """In place of NumPy's scalar."""
    code = kind.arguments[0] if isinstance(kind, NumberType) and kind.arguments else None
    order = kind.state[1] if isinstance(kind, NumberType) and isinstance(kind.state, tuple) else "<"
    if code not in NUMBERS or order not in ("<", ">", "|", "=") or not isinstance(content, bytes):
        raise Refused("has a number of a kind that is not known")
    (value,) = struct.unpack(order.replace("|", "=") + NUMBERS[code], content)
    found: float = value
    return found


STAND_INS: StandIns = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch.nn.modules.container", "ModuleDict"): Container,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): dict,
    ("dnnlib.util", "EasyDict"): dict,
    ("builtins", "set"): set,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy", "dtype"): NumberType,
}


def _tensors(module: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(module, Container) and isinstance(module.state, dict):
        module = Stored("ModuleDict", module.state)
    # Modules that stand in each other would have tensors without end.
    if not isinstance(module, Stored) or id(module.attributes) in seen:
        raise Refused(f"has no network's layer at {shown(prefix or 'its root')}")
    seen.add(id(module.attributes))
    for name, value in (module.section("_parameters") | module.section("_buffers")).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif value is not None:
            raise Refused(f"has no tensor at {shown(prefix + name)}")
    for name, child in module.section("_modules").items():
        if child is not None:
            yield from _tensors(child, f"{prefix}{name}.", seen)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= MOST_ARGUMENTS and all(_is_scalar(item) for item in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)
