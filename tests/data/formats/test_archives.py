"""Archives that would leave their folder, or unpack to far too much, are refused before they are used."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.data.formats.archives import opened_zip, tar_gz_members
from fewstep.errors import UserError
from soak.official_files import zipped

LARGEST = 1 << 20
ESCAPES = ["/etc/evil", "../evil", "a/../../evil", "..", "..\\evil", "\\evil", "C:\\evil", "c:evil", "a/.."]


def read_zip(path: Path) -> dict[str, bytes]:
    with opened_zip(path, LARGEST) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, body in members:
            archive.addfile(member, io.BytesIO(body))
    path.write_bytes(content.getvalue())
    return path


def member(name: str, body: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.size = len(body)
    return found, body


def read_tar(path: Path, total: int = 4 << 20) -> dict[str, bytes]:
    return dict(tar_gz_members(path, ["folder/wanted", "evil"], LARGEST, total))


def test_sound_archives_are_read(tmp_path: Path) -> None:
    members = {"folder/a": b"1", "folder/b": b"2" * 5000}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        (tmp_path / "zip").write_bytes(zipped(members, method))
        assert read_zip(tmp_path / "zip") == members
    path = write_tar(tmp_path / "tar", member("./folder/wanted", b"yes"), member("folder/other", b"no"))
    assert read_tar(path) == {"folder/wanted": b"yes"}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(zipped({name: b"x"}))
    write_tar(tmp_path / "tar", member("folder/wanted", b"yes"), member(name, b"x"))
    for read, path in ((read_zip, "zip"), (read_tar, "tar")):
        with pytest.raises(UserError, match="leaves the archive's folder"):
            read(tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tar", "zip"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
@pytest.mark.parametrize("name", ["folder/wanted", "folder/other"])
def test_a_link_or_device_in_a_tar_is_refused(kind: bytes, name: str, tmp_path: Path) -> None:
    found, _ = member(name)
    found.type, found.linkname = kind, "/etc/passwd"
    with pytest.raises(UserError, match=rf"holds {name}, which is a link or a device"):
        read_tar(write_tar(tmp_path / "tar", (found, b"")))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_device_in_a_zip_is_refused(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        found = zipfile.ZipInfo("link.png")
        found.create_system, found.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(found, "/etc/passwd")
    with pytest.raises(UserError, match=r"link\.png, which is a link or a device"):
        read_zip(tmp_path / "zip")


def test_a_zip_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(zipped({"bomb.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match=r"bomb\.png, which unpacks to 67,108,864 bytes; at most 1,048,576"):
        read_zip(tmp_path / "zip")


def test_a_zip_bomb_that_declares_too_little_is_not_unpacked_beyond_it(tmp_path: Path) -> None:
    content = zipped({"bomb.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    (tmp_path / "zip").write_bytes(content.replace(struct.pack("<L", 64 << 20), struct.pack("<L", 1000)))
    with pytest.raises(UserError, match="cannot be read as a zip archive: Bad CRC"):
        read_zip(tmp_path / "zip")


def test_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", b"2")
    with pytest.raises(UserError, match="members of the same name"):
        read_zip(tmp_path / "zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_methods_are_refused(method: int, tmp_path: Path) -> None:
    (tmp_path / "zip").write_bytes(zipped({"a.png": b"1"}, method))
    with pytest.raises(UserError, match=r"a\.png, which is encrypted or packed by an unusual method"):
        read_zip(tmp_path / "zip")


def test_a_member_of_a_tar_far_too_large_is_not_unpacked(tmp_path: Path) -> None:
    found, _ = member("folder/other")
    found.size = 1 << 40
    (tmp_path / "tar").write_bytes(gzip.compress(found.tobuf()))
    with pytest.raises(UserError, match=r"unpacks to 1,099,511,627,776 bytes; at most 1,048,576"):
        read_tar(tmp_path / "tar")


def test_a_tar_with_endless_headers_is_not_unpacked_beyond_its_bound(tmp_path: Path) -> None:
    found, _ = member("x")
    found.type, found.size = tarfile.XHDTYPE, 1 << 30  # its "attributes", which the library reads whole
    (tmp_path / "tar").write_bytes(gzip.compress(found.tobuf(tarfile.USTAR_FORMAT) + bytes(32 << 20)))
    with pytest.raises(UserError, match="unpacks to more bytes than such an archive can hold"):
        read_tar(tmp_path / "tar")


@pytest.mark.parametrize("read", [read_zip, read_tar])
@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"\x1f\x8b\x08", b"not an archive"])
def test_what_is_no_archive_is_a_sentence(
    content: bytes, read: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"is empty \(0 bytes\)|cannot be read as a (zip|tar\.gz) archive"):
        read(tmp_path / "file")
