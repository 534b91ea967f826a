"""Parts of a cache from pictures in a folder or zip archive."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewstep.data.cache import Block, Part
from fewstep.data.formats.picture_files import opened

_BLOCK = 128

Decode = Callable[[bytes, int, str], NDArray[np.uint8]]
"""(a picture's bytes, size, what it is called in an error) → uint8 [3, size, size]."""


def part_of_pictures(
    path: Path, names: Sequence[str], size: int, decode: Decode, labels: Mapping[str, int] | None
) -> Part:
    """Pictures of a folder or zip archive, in the order of `names`.

    Args:
        path: the folder or archive.
        names: of pictures in it.
        size: pixels of a side.
        decode: makes pixels of a picture's bytes.
        labels: name → class; None where there are no classes.
    """
    return Part(len(names), _blocks(path, names, size, decode, labels))


def _blocks(
    path: Path, names: Sequence[str], size: int, decode: Decode, labels: Mapping[str, int] | None
) -> Iterator[Block]:
    with opened(path) as read:
        for first in range(0, len(names), _BLOCK):
            some = names[first : first + _BLOCK]
            images = np.stack([decode(read(name), size, f"{path}/{name}") for name in some])
            yield images, None if labels is None else np.array([labels[name] for name in some], np.int64)
