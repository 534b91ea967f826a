"""CIFAR-10 in its official formats, written byte for byte and read back."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.data.cifar10 import MD5, Cifar10
from fewstep.data.formats.batch_pickle import read_batch
from fewstep.errors import UserError
from soak.official_files import (
    CIFAR,
    CIFAR_BATCHES,
    cifar_archive,
    cifar_batch,
    cifar_files,
    parquet,
    picture,
    random_pixels,
)

N = 20  # images of a batch
FILES, HELD = cifar_files(N)
PIXELS = np.concatenate([HELD[name][0] for name in CIFAR_BATCHES])  # 100 training images, then 20 of the test set
LABELS = [label for name in CIFAR_BATCHES for label in HELD[name][1]]


def write_folder(path: Path) -> Path:
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


def write_archive(path: Path) -> Path:
    path.write_bytes(cifar_archive(FILES))
    return path


def write_parquet(path: Path) -> Path:
    pytest.importorskip("pyarrow")
    (path / "plain_text").mkdir(parents=True)
    pictures = [picture(pixels) for pixels in PIXELS]
    for number, rows in enumerate((slice(0, 60), slice(60, 100))):
        file = path / "plain_text" / f"train-0000{number}-of-00002.parquet"
        parquet(file, "img", pictures[rows], LABELS[rows])
    parquet(path / "plain_text" / "test-00000-of-00001.parquet", "img", pictures[100:], LABELS[100:])
    return path


WAYS: dict[str, Callable[[Path], Path]] = {
    CIFAR: write_folder,
    "cifar-10-python.tar.gz": write_archive,
    "hub": write_parquet,
}


def made(path: Path, **settings: Any) -> Cifar10:
    """The data set at `path`, its MD5 stated."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else MD5
    return Cifar10(str(path), **{"md5": md5, "validation": 10, **settings})


def rows_of(images: Tensor, labels: Sequence[int]) -> set[tuple[bytes, int]]:
    """Images and labels as a set that forgets their order."""
    return {(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize("name", WAYS)
def test_every_format_holds_the_same_images(name: str, tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    dataset = made(WAYS[name](tmp_path / name))
    expected = rows_of(as_images(PIXELS), LABELS)
    found = {split: dataset.images(split) for split in ("train", "validation", "test")}
    assert [images.shape for images in found.values()] == [(90, 3, 32, 32), (10, 3, 32, 32), (20, 3, 32, 32)]
    labels = {split: dataset.labels(split) for split in found}
    assert all(of_split.dtype == torch.int64 for of_split in labels.values())
    every = [rows_of(images[:], labels[split].tolist()) for split, images in found.items()]
    assert set.union(*every) == expected
    assert sum(map(len, every)) == 120
    assert every[2] == rows_of(as_images(PIXELS[100:]), LABELS[100:])


def test_formats_agree_in_order_and_a_second_reading_needs_the_cache_alone(tmp_path: Path) -> None:
    folder, archive = write_folder(tmp_path / CIFAR), write_archive(tmp_path / "cifar-10-python.tar.gz")
    first = made(folder).images("train")[:]
    assert torch.equal(first, made(archive).images("train")[:])
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "fewstep-cache").rglob("*.npy"))
    assert torch.equal(first, made(folder).images("train")[:])
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "fewstep-cache").rglob("*.npy")) == before


def test_the_folder_above_will_do_and_the_cache_may_lie_elsewhere(tmp_path: Path) -> None:
    write_folder(tmp_path / CIFAR)
    dataset = made(tmp_path, cache=str(tmp_path / "elsewhere"))
    assert len(dataset.images("test")) == N
    assert sorted(path.name for path in tmp_path.iterdir()) == [CIFAR, "elsewhere"]


def test_the_writer_writes_what_python_reads() -> None:
    batch = pickle.loads(FILES["data_batch_2"], encoding="bytes")
    assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
    assert batch[b"data"].dtype == np.uint8
    assert np.array_equal(batch[b"data"], HELD["data_batch_2"][0].reshape(N, 3072))
    assert batch[b"labels"] == HELD["data_batch_2"][1]


def test_a_batch_is_what_python_would_unpickle() -> None:
    for content in FILES.values():
        ours, python = read_batch(content, "batch"), pickle.loads(content, encoding="bytes")
        assert set(ours) == set(python)
        assert np.array_equal(ours[b"data"], python[b"data"])
        assert all(ours[key] == python[key] for key in python if key != b"data")


def test_the_official_md5_is_asked_for_by_default(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(UserError, match=rf"MD5 of .* is \w+, but must be {MD5}"):
        Cifar10(str(path)).images("train")
    assert len(Cifar10(str(path), md5=None, validation=10).images("train")) == 90


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_download_that_was_cut_short_is_a_sentence(share: float, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "cifar-10-python.tar.gz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for md5 in (MD5, None):
        with pytest.raises(UserError, match=r"cut short|cannot be read as a tar\.gz archive|holds no"):
            Cifar10(str(path), md5=md5).images("train")
    assert not list((tmp_path / "fewstep-cache").glob("[!.]*"))


@pytest.mark.parametrize("name", CIFAR_BATCHES)
def test_a_batch_that_is_missing_or_empty_is_named(name: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path / CIFAR)
    (path / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} is empty \(0 bytes\)"):
        made(path).images("train")
    (path / name).unlink()
    with pytest.raises(UserError, match=name if name != "data_batch_1" else "there is no CIFAR-10"):
        made(path).images("train")
    rest = {other: content for other, content in FILES.items() if other != name}
    (tmp_path / "archive").write_bytes(cifar_archive(rest))
    with pytest.raises(UserError, match=f"holds no {name}"):
        made(tmp_path / "archive").images("train")


def protocol_2(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


PLANTED = {
    "os.system": b"\x80\x02cos\nsystem\nU\x04true\x85R.",
    "posix.system": b"\x80\x02}q\x01U\x04datacposix\nsystem\nU\x04true\x85Rs.",
    "builtins.eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "numpy.testing._private.utils.runstring": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n(U\x011}tR.",
}


@pytest.mark.parametrize("named", PLANTED)
def test_a_planted_payload_is_refused_by_name(named: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path / CIFAR)
    (path / "data_batch_3").write_bytes(PLANTED[named])
    with pytest.raises(UserError, match=rf"data_batch_3 names {named}, .* not run"):
        made(path).images("train")


def test_a_planted_payload_does_not_run(tmp_path: Path) -> None:
    path, ran = write_folder(tmp_path / CIFAR), tmp_path / "ran"
    content = protocol_2(Payload(ran))
    pickle.loads(content)
    assert ran.exists()
    ran.unlink()
    (path / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match="it was not run"):
        made(path).images("train")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pickle.dumps({b"data": b""}, protocol=4), "FRAME"),
        (protocol_2([b"data".decode()]), "no dict"),
        (b"\x80\x02}q\x01U\x04datar\xff\xff\xff\xffNs.", "more memory"),
        (b"\x80\x02}" + b"N" + b"\x85" * 500 + b"Ns.", "TUPLE1"),
        (b"\x80\x02\x8a\x02ab\x81.", "NEWOBJ"),
        (b"\x82\x01.", "EXT1"),
        (b"P1\n.", "PERSID"),
        (b"\x80\x02}", "cannot be read as a CIFAR batch"),
        (b"<html>404</html>", "cannot be read as a CIFAR batch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_pickle_is_a_sentence(content: bytes, why: str) -> None:
    with pytest.raises(UserError, match=why):
        read_batch(content, "data_batch_1")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"U\x02u1", b"U\x02i1", "other numbers than bytes"),
        (b"U\x02u1", b"U\x01O", "other numbers than bytes"),
        (b"M\x00\x0c\x86", b"M\x00\x0b\x86", "cannot reshape|3,072"),
        (b"U\x04data", b"U\x04dato", "no b'data'"),
        (b"U\x06labels", b"U\x06labelz", "no list b'labels'"),
        (b"]q\x05(K\x00", b"]q\x05(K\x0a", "the label 10"),
        (b"]q\x05(K\x00", b"]q\x05(\x88", "the label True"),
        (b"]q\x05(K\x00", b"]q\x05(", "19 labels for 20 images"),
    ],
)
def test_other_contents_are_a_sentence(old: bytes, new: bytes, why: str, tmp_path: Path) -> None:
    path = write_folder(tmp_path / CIFAR)
    content = (path / "data_batch_1").read_bytes()
    assert content.count(old) == 1
    (path / "data_batch_1").write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=why):
        made(path).images("train")


def test_a_batch_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = write_folder(tmp_path / CIFAR)
    with (path / "data_batch_4").open("wb") as file:
        file.truncate(1 << 40)  # sparse: nothing of it lies on the disk
    with pytest.raises(UserError, match="data_batch_4 has 1,099,511,627,776 bytes"):
        made(path).images("train")


@pytest.mark.parametrize("validation", [0, -1, 100, 101])
def test_as_many_validation_images_as_there_are_not(validation: int, tmp_path: Path) -> None:
    dataset = made(write_folder(tmp_path / CIFAR), validation=validation)
    with pytest.raises(UserError, match=rf"dataset.validation is {validation}, .* 100 training images"):
        dataset.images("train")


class TestParquet:
    def write(self, path: Path, **changes: Any) -> Cifar10:
        pytest.importorskip("pyarrow")
        path.mkdir()
        sound = {"column": "img", "pictures": [picture(pixels) for pixels in PIXELS[:4]], "labels": [1, 2, 3, 9]}
        parquet(path / "train-00000-of-00001.parquet", **{**sound, **changes})
        parquet(path / "test-00000-of-00001.parquet", **sound)
        return Cifar10(str(path), validation=1)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"column": "photo"}, "has the columns photo, label; it must have label, and img or image"),
            ({"labels": [1, 2, 3, 10]}, "the label 10"),
            ({"labels": [1, 2, 3, None]}, "the label None"),
            ({"pictures": [b"no picture"] * 4}, r"\(picture 0\) is not a PNG"),
            ({"pictures": [picture(random_pixels(1, 16, 0)[0])] * 4}, r"16 × 16 pixels, not 32 × 32"),
            ({"pictures": [None] * 4}, "is not one of pictures"),
        ],
        ids=str,
    )
    def test_other_columns_are_a_sentence(self, changes: dict[str, Any], why: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=why):
            self.write(tmp_path / "hub", **changes).images("train")

    def test_a_shard_that_is_missing_is_told(self, tmp_path: Path) -> None:
        dataset = self.write(tmp_path / "hub")
        first = tmp_path / "hub" / "train-00000-of-00001.parquet"
        first.rename(first.with_name("train-00001-of-00003.parquet"))
        with pytest.raises(UserError, match="has 1 of the 3 parquet files of train"):
            dataset.images("train")


def test_a_batch_of_no_images_is_a_sentence(tmp_path: Path) -> None:
    path = write_folder(tmp_path / CIFAR)
    (path / "test_batch").write_bytes(cifar_batch(PIXELS[:0], [], "testing batch 1 of 1"))
    with pytest.raises(UserError, match="no b'data' of 3,072 bytes per image"):
        made(path).images("train")


def test_bytes_of_another_archive_are_a_sentence(tmp_path: Path) -> None:
    for name, content in {"zip": b"PK\x03\x04" + b"\0" * 40, "text": b"404: not found"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read as a tar\.gz archive"):
            made(tmp_path / name).images("train")
