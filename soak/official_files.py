"""Image sets in the formats that their authors publish them in, written small and byte for byte."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CIFAR = "cifar-10-batches-py"
CIFAR_BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
Pixels = NDArray[np.uint8]


def random_pixels(n: int, size: int, seed: int) -> Pixels:
    """Uint8 [n, 3, size, size]."""
    return np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), dtype=np.uint8)


def cifar_batch(pixels: Pixels, labels: Sequence[int], batch_label: str) -> bytes:
    """A batch of images [n, 3, 32, 32] as Python 2's cPickle wrote it: protocol 2, NumPy's old module names."""
    rows = pixels.reshape(len(pixels), 3072).tobytes()
    names = b"".join(_text(f"picture_s_{n:06}.png") for n in range(len(pixels)))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t(K\x01"
        + _whole(len(pixels))
        + b"M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(rows))
        + rows
        + b"tb"
    )
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02"
        + _text(batch_label)
        + b"q\x03U\x06labelsq\x04]q\x05("
        + b"".join(map(_whole, labels))
        + b"eU\x04dataq\x06"
        + array
        + b"U\tfilenamesq\x0c]q\r("
        + names
        + b"eu."
    )


def _text(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def _whole(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def cifar_files(n: int) -> tuple[dict[str, bytes], dict[str, tuple[Pixels, list[int]]]]:
    """The six batches of n images each, as files and as what they hold."""
    held = {
        name: (random_pixels(n, 32, seed), [(3 * seed + 7 * row) % 10 for row in range(n)])
        for seed, name in enumerate(CIFAR_BATCHES)
    }
    titles = [*(f"training batch {n} of 5" for n in range(1, 6)), "testing batch 1 of 1"]
    files = {name: cifar_batch(*held[name], title) for name, title in zip(CIFAR_BATCHES, titles, strict=True)}
    return files, held


def cifar_archive(files: Mapping[str, bytes]) -> bytes:
    """`cifar-10-python.tar.gz`, its members out of order as in the real one."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        folder = tarfile.TarInfo(CIFAR)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in [*sorted(files, reverse=True), "readme.html"]:
            member = tarfile.TarInfo(f"{CIFAR}/{name}")
            body = files.get(name, b"<meta http-equiv='refresh'>")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return content.getvalue()


def imagenet_npz(folder: Path, n: int, compressed: bool) -> dict[str, tuple[Pixels, NDArray[Any]]]:
    """The eleven .npz files of n images each; what they hold, labels from 1."""
    held = {}
    names = [*(f"train_data_batch_{batch}" for batch in range(1, 11)), "val_data"]
    for seed, name in enumerate(names):
        pixels = random_pixels(n, 64, seed)
        labels = np.random.default_rng(seed).integers(1, 1001, n)
        save = np.savez_compressed if compressed else np.savez
        data = pixels.reshape(n, -1)
        if name == "val_data":
            save(folder / f"{name}.npz", data=data, labels=labels)
        else:
            save(folder / f"{name}.npz", data=data, labels=labels, mean=data.mean(0))
        held[name] = pixels, labels
    return held


def picture(pixels: Pixels, kind: str = "PNG") -> bytes:
    """A picture file of uint8 [3, height, width]."""
    content = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(content, kind)
    return content.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return content.getvalue()


def parquet(path: Path, column: str, pictures: Sequence[bytes], labels: Sequence[int]) -> None:
    """A parquet file as the Hugging Face hub has it; needs pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": content, "path": None} for content in pictures]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(cells, kind), "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path, row_group_size=100)
