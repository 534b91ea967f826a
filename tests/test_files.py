"""Files are whole or absent."""

import hashlib
import threading
from pathlib import Path

import pytest

from fewstep.files import sha256, write_atomically


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_text_bytes_and_writer(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "für α\n")
    write_atomically(tmp_path / "deep" / "bytes", b"\x00\xff")
    write_atomically(tmp_path / "written", lambda path: path.write_bytes(b"by a library"))
    assert (tmp_path / "text").read_bytes() == "für α\n".encode()
    assert (tmp_path / "deep" / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "written").read_bytes() == b"by a library"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "text", "written"]


def test_the_writer_gets_a_path_with_the_same_suffix_in_the_same_folder(tmp_path: Path) -> None:
    seen: list[Path] = []

    def writer(path: Path) -> None:
        seen.append(path)
        path.write_text("x")

    write_atomically(tmp_path / "plot.png", writer)
    assert (seen[0].suffix, seen[0].parent) == (".png", tmp_path)


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_writer_that_raises_leaves_what_was_there(
    tmp_path: Path, old: bytes | None, interruption: type[BaseException]
) -> None:
    if old is not None:
        (tmp_path / "file").write_bytes(old)
    before = contents(tmp_path)

    def writer(path: Path) -> None:
        path.write_bytes(b"half")
        raise interruption

    with pytest.raises(interruption):
        write_atomically(tmp_path / "file", writer)
    assert contents(tmp_path) == before


def test_text_that_cannot_be_encoded_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "new \ud800")
    assert contents(tmp_path) == {"file": b"old"}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    versions = [bytes([digit]) * 300_000 for digit in range(4)]
    path = tmp_path / "file"
    write_atomically(path, versions[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for round_ in range(40):
        write_atomically(path, versions[round_ % 4])
    stop.set()
    reader.join()
    assert seen <= set(versions)
    assert contents(tmp_path) == {"file": versions[39 % 4]}


def test_sha256_of_files_below_and_above_one_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    # FIPS 180-2, appendix B.1.
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    for size in (0, (1 << 20) - 1, 1 << 20, (1 << 21) + 5):
        path.write_bytes(b"a" * size)
        assert sha256(path) == hashlib.sha256(b"a" * size).hexdigest()
