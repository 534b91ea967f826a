"""Members of zip and tar archives, read where they are: nothing is unpacked, so nothing can leave a folder.

An archive that would leave one, or unpack to more than its kind can hold, is refused whole all the same.
"""

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from fewstep.data.formats.reading import check_file, readable
from fewstep.errors import UserError
from fewstep.provenance import shown

_ENCRYPTED = 1  # a zip member's flag
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others may ask for gigabytes of memory
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made by a system without kinds of files


@contextmanager
def opened_zip(path: Path, largest: int) -> Iterator[zipfile.ZipFile]:
    """A zip archive, every member of which has been checked by what the archive says of it.

    Args:
        path: the archive.
        largest: bytes that a member may have, unpacked.

    Raises:
        UserError: it is no zip archive; or a member's name leaves the archive's folder or stands in it twice, or
            it is a link, encrypted, packed by an unusual method, or larger than `largest`.
    """
    check_file(path)
    with readable(path, "a zip archive"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            plain = stat.S_IFMT(member.external_attr >> 16) in _KINDS
            check_member(path, member.filename, plain, member.file_size, largest)
            if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
                raise UserError(
                    f"{path} holds {shown(member.filename)}, which is encrypted or packed by an unusual method; "
                    "allowed are members stored or deflated."
                )
        if len(archive.NameToInfo) < len(members):
            raise UserError(f"{path} holds members of the same name.")
        yield archive


def tar_gz_members(path: Path, names: Collection[str], largest: int, total: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of a .tar.gz archive's members called `names`, in the archive's order.

    Args:
        path: the archive.
        names: whole names of members, without a leading `./`.
        largest: bytes that any member may have.
        total: bytes that the archive may have, unpacked.

    Raises:
        UserError: it is no such archive, it is cut short or larger than `total`; or a member's name leaves the
            archive's folder, or it is a link, a device or a pipe, or larger than `largest`.
    """
    check_file(path)
    with (
        readable(path, "a tar.gz archive"),
        _BoundedGzip(path, total) as unpacked,
        tarfile.open(fileobj=unpacked, mode="r|") as archive,
    ):
        for member in archive:
            check_member(path, member.name, member.isreg() or member.isdir(), member.size, largest)
            name = member.name.removeprefix("./")
            if name in names:
                file = archive.extractfile(member)
                if file is None:
                    raise UserError(f"{path} holds {name}, but not as a file.")
                yield name, file.read()


def check_member(archive: Path, name: str, plain: bool, size: int, largest: int) -> None:
    """Raise a UserError unless a member is a plain file or folder in the archive's own folder, and not too
    large."""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise UserError(f"{archive} holds a member called {shown(name)}, which leaves the archive's folder.")
    if not plain:
        raise UserError(f"{archive} holds {shown(name)}, which is a link or a device and not a plain file.")
    if size > largest:
        raise UserError(
            f"{archive} holds {shown(name)}, which unpacks to {size:,} bytes; at most {largest:,} are possible."
        )


class _BoundedGzip(gzip.GzipFile):
    """A .gz file that ends in a UserError after `most` bytes, before more of them are unpacked."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self.path = path
        self.left = most

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.left -= len(block)
        if self.left < 0:
            raise UserError(f"{self.path} unpacks to more bytes than such an archive can hold.")
        return block
