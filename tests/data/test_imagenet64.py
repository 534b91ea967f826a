"""ImageNet at 64×64 in its published formats, written small and read back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.data.imagenet64 import ImageNet64
from fewstep.errors import UserError
from soak.official_files import imagenet_npz, parquet, picture, random_pixels, zipped

PIXELS = random_pixels(12, 64, 3)  # eight training images, four of the official validation set
NAMES = [f"n0144076{row % 2}/{row}.png" for row in range(12)]


def made(path: Path, **settings: Any) -> ImageNet64:
    return ImageNet64(str(path), **{"validation": 2, **settings})


def rows_of(images: Any, labels: Any) -> set[tuple[bytes, int]]:
    return {(image.numpy().tobytes(), int(label)) for image, label in zip(images[:], labels, strict=True)}


@pytest.mark.parametrize("compressed", [True, False])
def test_the_npz_batches(compressed: bool, tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    held = imagenet_npz(tmp_path, 3, compressed)
    dataset = made(tmp_path, cache=str(tmp_path / "cache"))
    found = {split: (dataset.images(split), dataset.labels(split)) for split in ("train", "validation", "test")}
    assert [images.shape for images, _ in found.values()] == [(28, 3, 64, 64), (2, 3, 64, 64), (3, 3, 64, 64)]
    pixels, labels = (np.concatenate([batch[item] for batch in held.values()]) for item in (0, 1))
    every = [rows_of(*of_split) for of_split in found.values()]
    assert set.union(*every) == rows_of(as_images(pixels), labels - 1)
    assert every[2] == rows_of(as_images(held["val_data"][0]), held["val_data"][1] - 1)


def test_the_batches_may_lie_in_the_folders_that_they_are_published_in(tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    for number in range(1, 11):
        part = tmp_path / f"Imagenet64_train_part{1 + (number > 5)}_npz"
        part.mkdir(exist_ok=True)
        (tmp_path / f"train_data_batch_{number}.npz").rename(part / f"train_data_batch_{number}.npz")
    assert len(made(tmp_path).images("train")) == 8


def test_synsets_put_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    held = imagenet_npz(tmp_path, 1, True)
    synsets = [f"n{name:08}" for name in np.random.default_rng(0).permutation(10**6)[:1000]]
    lines = "".join(f"{name} {number} some_word\n" for number, name in enumerate(synsets, start=1))
    (tmp_path / "map_clsloc.txt").write_text(lines)
    label = int(held["val_data"][1][0])
    assert made(tmp_path).labels("test").tolist() == [label - 1]
    named = made(tmp_path, synsets=str(tmp_path / "map_clsloc.txt"))
    assert named.labels("test").tolist() == [sorted(synsets).index(synsets[label - 1])]


@pytest.mark.parametrize(
    "text", ["", "n02119789 1 kit_fox\n", "n02119789 1\n" * 1000, "kit_fox\n" * 1000, "\xff\xfe"], ids=len
)
def test_another_list_of_synsets_is_a_sentence(text: str, tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    (tmp_path / "map_clsloc.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"map_clsloc\.txt"):
        made(tmp_path, synsets=str(tmp_path / "map_clsloc.txt")).labels("train")


def spoilt_npz(path: Path, **arrays: Any) -> None:
    sound = {"data": np.zeros((2, 12288), np.uint8), "labels": np.array([1, 2])}
    np.savez(path, **{**sound, **arrays})


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"data": np.array([{}, []], dtype=object)}, "data .* holds Python objects"),
        ({"labels": np.array([1, "x"], dtype=object)}, "labels .* holds Python objects"),
        ({"data": np.zeros((2, 12288), np.float32)}, "data .* must be of uint8"),
        ({"data": np.zeros((2, 3, 64, 64), np.uint8)}, r"must be \[N, 12288\]"),
        ({"data": np.zeros((2, 3072), np.uint8)}, r"must be \[N, 12288\]"),
        ({"data": np.asfortranarray(np.zeros((2, 12288), np.uint8))}, "in rows"),
        ({"data": np.zeros((0, 12288), np.uint8)}, "another size than its shape"),
        ({"labels": np.array([1, 2, 3])}, r"\[2, 12288\] and \[3\]"),
        ({"labels": np.array([0, 1])}, "the label 0; allowed are whole numbers from 1 to 1000"),
        ({"labels": np.array([1, 1001])}, "the label 1001"),
        ({"labels": np.array([1.0, 2.0])}, "must be of integer"),
    ],
    ids=str,
)
def test_other_arrays_are_a_sentence(arrays: dict[str, Any], why: str, tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    spoilt_npz(tmp_path / "train_data_batch_7.npz", **arrays)
    with pytest.raises(UserError, match=why):
        made(tmp_path).images("train")


def test_an_array_that_is_missing_is_named(tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    np.savez(tmp_path / "val_data.npz", labels=np.array([1]))
    with pytest.raises(UserError, match=r"val_data\.npz holds no array called data"):
        made(tmp_path).images("train")


def test_a_header_that_claims_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    array = tmp_path / "data.npy"
    with array.open("wb") as file:
        shape = (2_000_000, 12288)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(12288))
    labels = tmp_path / "labels.npy"
    np.save(labels, np.array([1]))
    members = {"data.npy": array.read_bytes(), "labels.npy": labels.read_bytes()}
    (tmp_path / "train_data_batch_3.npz").write_bytes(zipped(members))
    with pytest.raises(UserError, match="has another size than its shape"):
        made(tmp_path).images("train")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_batch_that_was_cut_short_is_named(share: float, tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, False)
    path = tmp_path / "train_data_batch_10.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"train_data_batch_10\.npz (is empty|cannot be read as a zip archive)"):
        made(tmp_path).images("train")


def test_a_batch_that_is_missing_is_named(tmp_path: Path) -> None:
    imagenet_npz(tmp_path, 1, True)
    (tmp_path / "train_data_batch_4.npz").unlink()
    with pytest.raises(UserError, match=r"holds train_data_batch_4\.npz 0 times"):
        made(tmp_path).images("train")


def test_parquet_files(tmp_path: Path, as_images: Callable[[Any], Tensor]) -> None:
    pytest.importorskip("pyarrow")
    files = [picture(pixels) for pixels in PIXELS]
    parquet(tmp_path / "train-00000-of-00001.parquet", "image", files[:8], [*range(990, 998)])
    parquet(tmp_path / "validation-00000-of-00001.parquet", "image", files[8:], [0, 1, 2, 999])
    dataset = made(tmp_path)
    assert rows_of(dataset.images("test"), dataset.labels("test")) == rows_of(
        as_images(PIXELS[8:]), [0, 1, 2, 999]
    )
    assert len(dataset.images("train")) == 6


def write_pictures(path: Path, names: list[str], pixels: Any, as_zip: bool) -> None:
    members = {name: picture(of_one) for name, of_one in zip(names, pixels, strict=True)}
    if as_zip:
        path.with_name(f"{path.name}.zip").write_bytes(zipped(members))
        return
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(("train", "test"), [("train_64x64", "valid_64x64"), ("train", "val")])
def test_pictures_of_folders_and_zips(
    train: str, test: str, as_zip: bool, tmp_path: Path, as_images: Callable[[Any], Tensor]
) -> None:
    write_pictures(tmp_path / train, NAMES[:8], PIXELS[:8], as_zip)
    write_pictures(tmp_path / test, NAMES[8:], PIXELS[8:], as_zip)
    dataset = made(tmp_path)
    assert rows_of(dataset.images("test"), dataset.labels("test")) == rows_of(as_images(PIXELS[8:]), [0, 1, 0, 1])
    assert len(dataset.images("train")) == 6


def test_pictures_without_classes_have_no_labels(tmp_path: Path) -> None:
    names = [f"{row:05}.png" for row in range(12)]
    write_pictures(tmp_path / "train_64x64", [f"train_64x64/{name}" for name in names[:8]], PIXELS[:8], True)
    write_pictures(tmp_path / "valid_64x64", names[8:], PIXELS[8:], True)
    dataset = made(tmp_path)
    assert torch.is_tensor(dataset.images("train")[:2])
    with pytest.raises(UserError, match="imagenet64 have no classes"):
        dataset.labels("train")


def test_pictures_of_another_size_or_class_are_a_sentence(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", NAMES[:8], PIXELS[:8], False)
    write_pictures(tmp_path / "val", [*NAMES[8:11], "n09999999/1.png"], PIXELS[8:], False)
    with pytest.raises(UserError, match="n09999999, which is no class of the training images"):
        made(tmp_path).images("train")
    (tmp_path / "val" / "n09999999").rename(tmp_path / "val" / "n01440761x")
    (tmp_path / "val" / "n01440761x" / "1.png").rename(tmp_path / "val" / "n01440761" / "x.png")
    (tmp_path / "val" / "n01440761" / "x.png").write_bytes(picture(random_pixels(1, 32, 0)[0]))
    with pytest.raises(UserError, match=r"x\.png has 32 × 32 pixels, not 64 × 64"):
        made(tmp_path).images("train")
