"""A folder or a zip archive of pictures: their names, and one picture's bytes after another."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fewstep.data.formats.archives import opened_zip
from fewstep.data.formats.pictures import LARGEST_FILE, SUFFIXES
from fewstep.data.formats.reading import check_file, readable
from fewstep.errors import UserError

DATASET_JSON = "dataset.json"
_LARGEST_JSON = 1 << 28  # bytes; ImageNet's has some 50 MB

Read = Callable[[str], bytes]


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture, and not of one that a system hides."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(SUFFIXES) and not last.startswith(".") and "__MACOSX" not in name.split("/")


def picture_names(path: Path) -> list[str]:
    """The pictures of a folder with all below it, or of a zip archive, sorted; names have `/` between folders.

    Raises:
        UserError: it is neither, it cannot be read, or holds no picture.
    """
    if path.is_dir():
        found = [os.path.relpath(file, path).replace(os.sep, "/") for file in _files_below(path)]
    else:
        with opened_zip(path, max(LARGEST_FILE, _LARGEST_JSON)) as archive:
            found = [member.filename for member in archive.infolist() if not member.is_dir()]
    names = sorted(name for name in found if is_picture(name))
    if not names:
        raise UserError(f"{path} holds no pictures; looked for were files that end in {', '.join(SUFFIXES)}.")
    return names


@contextmanager
def opened(path: Path) -> Iterator[Read]:
    """A function from a picture's name to its bytes."""
    if path.is_dir():
        yield lambda name: _read_file(path / name, LARGEST_FILE)
        return
    with opened_zip(path, max(LARGEST_FILE, _LARGEST_JSON)) as archive:

        def read(name: str) -> bytes:
            with readable(f"{path}/{name}", "a member of a zip archive"):
                return archive.read(name)

        yield read


def dataset_json(path: Path) -> bytes | None:
    """The content of `dataset.json` at the top of a folder or zip archive; None if there is none."""
    if path.is_dir():
        return _read_file(path / DATASET_JSON, _LARGEST_JSON) if (path / DATASET_JSON).exists() else None
    with opened_zip(path, max(LARGEST_FILE, _LARGEST_JSON)) as archive:
        return archive.read(DATASET_JSON) if DATASET_JSON in archive.namelist() else None


def files_of(path: Path, names: Sequence[str]) -> list[Path]:
    """The files whose change changes the pictures `names` of a folder or zip archive."""
    if not path.is_dir():
        return [path]
    beside = [path / DATASET_JSON] if (path / DATASET_JSON).exists() else []
    return [path / name for name in names] + beside


def _files_below(folder: Path) -> Iterator[str]:
    """Regular files; links to files are followed, links to folders are not."""
    with readable(folder, "a folder"):
        entries = list(os.scandir(folder))
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(Path(entry.path))
            elif entry.is_file():
                yield entry.path


def _read_file(path: Path, largest: int) -> bytes:
    with readable(check_file(path), "a file"):
        size = path.stat().st_size
        if size > largest:
            raise UserError(f"{path} has {size:,} bytes; at most {largest:,} are possible here.")
        return path.read_bytes()
