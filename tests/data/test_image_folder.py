"""Folders and zip archives of pictures: crops, classes, splits."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fewstep.data.base import SPLITS, data_std
from fewstep.data.image_folder import ImageFolder
from fewstep.errors import UserError
from soak.official_files import picture, random_pixels, zipped

PIXELS = random_pixels(40, 8, 5)
NAMES = [f"{row % 4:05}/img{row:08}.png" for row in range(40)]  # as EDM's dataset tool names them
LABELS = [row * row % 7 for row in range(40)]


def write(path: Path, names: list[str] = NAMES, pixels: Any = PIXELS, labels: Any = ()) -> Path:
    """A folder, or an archive where the name ends in .zip; `labels` make a dataset.json."""
    members = {name: picture(of_one) for name, of_one in zip(names, pixels, strict=True)}
    if labels != ():
        members["dataset.json"] = json.dumps({"labels": labels}).encode()
    if path.suffix == ".zip":
        path.write_bytes(zipped(members))
        return path
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def made(path: Path, **settings: Any) -> ImageFolder:
    given = {"resolution": 8, "data_std": 0.58, "validation_share": 0.1, "test_share": 0.2}
    return ImageFolder(str(path), **{**given, **settings})


def rows_of(dataset: ImageFolder) -> dict[bytes, int]:
    """Every image with its label; the splits' sizes are what was asked for, and none is in two of them."""
    found: dict[bytes, int] = {}
    for split in SPLITS:
        images, labels = dataset.images(split)[:], dataset.labels(split)
        found |= {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    assert [len(dataset.images(split)) for split in SPLITS] == [28, 4, 8]
    assert len(found) == 40
    return found


@pytest.mark.parametrize("name", ["folder", "edm.zip"])
@pytest.mark.parametrize("kind", ["json", "folders"])
def test_images_and_classes(name: str, kind: str, tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    pairs = [[name, label] for name, label in zip(NAMES, LABELS, strict=True)]
    path = write(tmp_path / name, labels=pairs if kind == "json" else ())
    expected = LABELS if kind == "json" else [row % 4 for row in range(40)]
    images = [image.numpy().tobytes() for image in as_images(PIXELS)]
    assert rows_of(made(path)) == dict(zip(images, expected, strict=True))


def test_a_folder_and_its_archive_are_the_same_set(tmp_path: Path) -> None:
    folder, archive = (made(write(tmp_path / name)) for name in ("folder", "archive.zip"))
    for split in SPLITS:
        assert torch.equal(folder.images(split)[:], archive.images(split)[:])
        assert torch.equal(folder.labels(split), archive.labels(split))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ([f"{row}.png" for row in range(40)], ()),
        ([f"one_folder/{row}.png" for row in range(40)], ()),
        (["1.png", *NAMES[1:]], ()),
        (NAMES, None),
    ],
)
def test_no_classes(names: list[str], labels: Any, tmp_path: Path) -> None:
    dataset = made(write(tmp_path / "folder", names, labels=labels))
    assert len(dataset.images("train")) == 28
    with pytest.raises(UserError, match="have no classes here"):
        dataset.labels("train")


def test_the_folder_that_an_archive_was_made_of_is_no_class(tmp_path: Path) -> None:
    dataset = made(write(tmp_path / "a.zip", [f"all/{name}" for name in NAMES]))
    assert sorted(set(dataset.labels("train").tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", 'no "labels"'),
        (b'{"labels": {}}', "must be a list of pairs"),
        (b'{"labels": [["a.png", 1.5]]}', r"\['a\.png', 1\.5\]"),
        (b'{"labels": [["a.png", true]]}', r"\['a\.png', True\]"),
        (b'{"labels": [["a.png", -1]]}', r"\['a\.png', -1\]"),
        (b'{"labels": [["a.png", 100000000000000000000]]}', "allowed are pairs"),
        (b'{"labels": [[["a.png"], 1]]}', "allowed are pairs"),
        (b'{"labels": [["a.png", 1]]}', "no label for 00000/img00000000.png"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
    ],
    ids=str,
)
def test_another_dataset_json_is_a_sentence(content: bytes, why: str, tmp_path: Path) -> None:
    (write(tmp_path / "folder") / "dataset.json").write_bytes(content)
    with pytest.raises(UserError, match=why):
        made(tmp_path / "folder").images("train")


def test_the_middle_square_is_resized_by_lanczos(tmp_path: Path) -> None:
    wide = random_pixels(40, 24, 1)[:, :, 3:19]  # 16 rows, 24 columns
    dataset = made(write(tmp_path / "folder", pixels=wide), data_std=0.259)
    square = wide[:, :, :, 4:20]
    expected = {
        np.asarray(Image.fromarray(of_one.transpose(1, 2, 0)).resize((8, 8), Image.Resampling.LANCZOS)).tobytes()
        for of_one in square
    }
    images = torch.cat([dataset.images(split)[:] for split in SPLITS])
    found = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert {image.numpy().tobytes() for image in found.contiguous()} == expected


def test_lanczos_keeps_what_is_smooth(tmp_path: Path) -> None:
    """A picture of one colour keeps it, and a ramp stays a ramp, sampled at the centres of larger pixels."""
    ramp = np.broadcast_to(np.arange(4, 68, dtype=np.uint8), (3, 64, 64))
    dataset = made(write(tmp_path / "folder", NAMES[:3], [ramp] * 3), data_std=0.0)
    row = ((dataset.images("train")[0][0, 4] + 1) * 127.5).tolist()
    assert row[2:6] == pytest.approx([4 + 8 * (n + 0.5) - 0.5 for n in range(2, 6)], abs=0.51)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((8, 8), 77, np.uint8))
    files = {
        "a.png": grey,
        "b.png": grey.convert("RGBA"),
        "c.png": grey.convert("P"),
        "d.webp": grey.convert("RGB"),
    }
    files |= {"e.bmp": grey, "f.JPG": grey, "g.jpeg": grey.convert("CMYK"), "._h.png": grey, "i.gif": grey}
    (tmp_path / "folder").mkdir()
    for name, image in files.items():
        kind = {"webp": "WEBP", "bmp": "BMP", "JPG": "JPEG", "jpeg": "JPEG"}.get(name.rpartition(".")[2], "PNG")
        image.save(tmp_path / "folder" / name, kind)
    (tmp_path / "folder" / "readme.txt").write_text("not a picture")
    dataset = made(tmp_path / "folder", data_std=0.0)
    images = torch.cat([dataset.images(split)[:] for split in SPLITS])
    assert len(images) == 7
    assert ((images + 1) * 127.5 - 77).abs().max() < 2


def test_pixels_of_16_bits_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "folder", NAMES[:4], PIXELS[:4])
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "folder" / NAMES[0])
    with pytest.raises(UserError, match="allowed are those of 8 bits per channel"):
        made(tmp_path / "folder").images("train")


def test_the_standard_deviation_must_be_right(tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    path = write(tmp_path / "folder")
    with pytest.raises(UserError, match=r"data_std is 0\.5, but the training images of .* have 0\.5\d+") as told:
        made(path, data_std=0.5).images("train")
    value = float(str(told.value).partition("have ")[2].partition(";")[0])
    images = made(path, data_std=value).images("train")
    assert data_std(images[:]) == pytest.approx(value, abs=5e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"resolution": 0},
        {"resolution": 100_000},
        {"validation_share": 0.0},
        {"test_share": -0.1},
        {"validation_share": 0.5, "test_share": 0.5},
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.(resolution|validation_share)"):
        made(tmp_path, **settings)


def test_too_few_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are 2 pictures, too few"):
        made(write(tmp_path / "folder", NAMES[:2], PIXELS[:2])).images("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        made(tmp_path / "empty").images("train")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_a_picture_that_was_cut_short_is_named(share: float, tmp_path: Path) -> None:
    content = picture(PIXELS[0])
    for name in ("folder", "archive.zip"):
        path = write(tmp_path / name)
        if name == "folder":
            (path / NAMES[3]).write_bytes(content[: int(share * len(content))])
        else:
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("0/short.png", content[: int(share * len(content))])
        says = "is empty|is not a|is cut short|cannot be read as a"
        with pytest.raises(UserError, match=rf"(img00000003|short)\.png ({says})"):
            made(path).images("train")


def test_a_link_in_an_archive_and_a_pipe_in_a_folder_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"link\.png, which is a link or a device"):
        made(path).images("train")
    folder = write(tmp_path / "folder")
    os.mkfifo(folder / "00000" / "pipe.png")  # reading it would wait for ever
    (folder / "00000" / "loop").symlink_to(folder)
    assert len(made(folder).images("train")) == 28
