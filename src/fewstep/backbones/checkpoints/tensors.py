"""What `torch.save` wrote, read as tensors and plain data alone."""

import pickle
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.provenance import shown
from fewstep.restricted_pickle import Refused

DAMAGED = "is no file of torch.save, or a damaged one"
ZIP = b"PK\x03\x04"


def load_plain(file: Path | BytesIO) -> Any:
    """The content of a file of `torch.save`; tensors of a path stay on the disk until they are used.

    Raises:
        Refused: it holds anything else than tensors and plain data, or is damaged.
        OSError: it cannot be read.
    """
    mapped = isinstance(file, Path) and _is_zip(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"names {shown(named[1])}, which tensors do not need" if named else DAMAGED
        raise Refused(reason) from None
    except Exception:  # a damaged archive raises whatever it is met with
        raise Refused(DAMAGED) from None


def is_whole(value: Any) -> bool:
    """Whether a value is an ordinary tensor, none of whose elements is repeated by its strides."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return not value.is_quantized and value.nbytes <= value.untyped_storage().nbytes()


def _is_zip(path: Path) -> bool:
    """Whether a file has today's format; files of before 2020 are one pickle after another."""
    with path.open("rb") as file:
        start = file.read(len(ZIP))
    if not start:
        raise Refused("is empty")
    return start == ZIP
