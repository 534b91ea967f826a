"""What every reader does first and last: look whether a file can hold anything, and say in one sentence what is
wrong with what it holds."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fewstep.errors import UserError
from fewstep.provenance import shown


def check_file(path: Path) -> Path:
    """`path`, unless it is no regular file, or empty: then a UserError."""
    try:
        if not path.exists():
            raise UserError(f"There is no file {path}.")
        if not path.is_file():
            raise UserError(f"{path} is not a regular file.")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); its download or copy was cut short.")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from None
    return path


def files_like(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder, and of the folders in it, whose names fit a pattern such as `*.npz`, sorted."""
    with readable(folder, "a folder"):
        return sorted([*folder.glob(pattern), *folder.glob(f"*/{pattern}")])


@contextmanager
def readable(path: Path | str, kind: str) -> Iterator[None]:
    """Whatever a library raises about what `path` holds becomes a UserError: it is not sound `kind`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers of damaged files let through whatever they stumbled over
        reason = str(getattr(error, "strerror", None) or error).rstrip(".") or type(error).__name__
        raise UserError(f"{path} cannot be read as {kind}: {shown(reason)}.") from None


def check_md5(path: Path, md5: str | None) -> None:
    """Raise a UserError unless the file's bytes have this MD5 (None: any)."""
    if md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with readable(path, "a file"), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != md5:
        raise UserError(
            f"The MD5 of {path} is {digest.hexdigest()}, but must be {shown(md5)}: it is damaged, cut short, or "
            "another file."
        )


def check_labels(labels: Sequence[object], length: int, classes: range, where: Path | str) -> None:
    """Raise a UserError unless there are `length` whole numbers in `classes`."""
    if len(labels) != length:
        raise UserError(f"{where} has {len(labels)} labels for {length} images.")
    for label in labels:
        if not isinstance(label, int) or isinstance(label, bool) or label not in classes:
            allowed = f"whole numbers from {classes.start} to {classes.stop - 1}"
            raise UserError(f"{where} has the label {shown(repr(label))}; allowed are {allowed}.")
