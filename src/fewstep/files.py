"""Files that are whole or absent: every artefact is written to a temporary file, synced, and renamed."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from fewstep.ranks import rank


def write_atomically(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never half of it.

    `content` is text, bytes, or a function that writes the file whose path it is given (for libraries that
    insist on opening files themselves). Of several ranks rank 0 alone writes; its run ends before others read.
    """
    if rank() > 0:
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        if callable(content):
            content(temporary)
        elif isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
