"""Image sets, spoilt: CIFAR-10's batches and archive, .npz files, pictures in folders and archives, parquet."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fewstep.data.cache import Part
from fewstep.data.cifar10 import cifar10_source
from fewstep.data.formats.class_labels import class_labels, class_names
from fewstep.data.formats.picture_files import picture_names
from fewstep.data.formats.pictures import center_cropped
from fewstep.data.imagenet64 import imagenet64_source
from fewstep.data.mapped import MappedImages
from fewstep.data.picture_parts import part_of_pictures
from soak.mutations import as_json, mutated_bytes, mutated_tree
from soak.official_files import (
    CIFAR_BATCHES,
    cifar_archive,
    cifar_files,
    imagenet_npz,
    parquet,
    picture,
    random_pixels,
    zipped,
)


def check_parts(parts: Mapping[str, Part], size: int, classes: int) -> None:
    """Read every block; each must be uint8 [n, 3, size, size] with labels of `classes` classes."""
    for name, part in parts.items():
        length = 0
        for pixels, labels in part.blocks:
            assert pixels.dtype == np.uint8 and pixels.shape[1:] == (3, size, size), f"pixels of {name}"
            if labels is not None:
                assert labels.dtype == np.int64 and labels.shape == pixels.shape[:1], f"labels of {name}"
                assert labels.min() >= 0 and labels.max() < classes, f"classes of {name}"
            length += len(pixels)
        assert length == part.length, f"length of {name}"


class Cifar:
    """CIFAR-10's batches in a folder, and its archive without an MD5."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.archive = folder / "batches", folder / "archive.tar.gz"
        self.folder.mkdir()
        self.files, _ = cifar_files(3)
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)
        self.sound = cifar_archive(self.files)
        self.path = self.folder

    def spoil(self, draw: random.Random) -> None:
        name = draw.choice(CIFAR_BATCHES)
        fault = draw.random()
        # Most bytes are pixels, for which no value is wrong: spoil the pickle's instructions.
        content = self.files[name]
        content = (
            mutated_bytes(content[:400], draw) + content[400:] if fault < 0.5 else mutated_bytes(content, draw)
        )
        self.path = self.folder if fault < 0.7 else self.archive
        if fault < 0.7:
            self.folder.joinpath(CIFAR_BATCHES[0]).write_bytes(content)
        elif fault < 0.8:
            self.archive.write_bytes(cifar_archive({**self.files, name: content}))
        else:
            self.archive.write_bytes(mutated_bytes(self.sound, draw))

    def read(self) -> None:
        check_parts(cifar10_source(self.path, None).read(), 32, 10)


class Npz:
    """ImageNet's .npz batches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "npz"
        self.folder.mkdir()
        imagenet_npz(self.folder, 2, compressed=False)
        self.path = self.folder / "train_data_batch_2.npz"
        self.sound = [self.path.read_bytes()]
        imagenet_npz(self.folder, 2, compressed=True)
        self.sound.append(self.path.read_bytes())

    def spoil(self, draw: random.Random) -> None:
        content = draw.choice(self.sound)
        fault = draw.random()
        if fault < 0.3:  # the archive's and the first array's headers
            content = mutated_bytes(content[:200], draw) + content[200:]
        elif fault < 0.6:  # the directory at the end
            content = content[:-250] + mutated_bytes(content[-250:], draw)
        else:
            content = mutated_bytes(content, draw)
        self.path.write_bytes(content)

    def read(self) -> None:
        check_parts(imagenet64_source(self.folder, None).read(), 64, 1000)


class Pictures:
    """Pictures and their classes, in a folder and in a zip archive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.archive = folder / "pictures", folder / "pictures.zip"
        kinds = ("PNG", "JPEG", "WEBP", "BMP")
        pixels = random_pixels(len(kinds), 12, 0)
        self.pictures = {
            f"{row % 2}/{row}.{kind.lower()}": picture(pixels[row], kind) for row, kind in enumerate(kinds)
        }
        self.labels = {"labels": [[name, row] for row, name in enumerate(self.pictures)]}
        self.path = self.folder

    def spoil(self, draw: random.Random) -> None:
        members = dict(self.pictures)
        fault = draw.random()
        if fault < 0.6:
            name = draw.choice(sorted(members))
            members[name] = mutated_bytes(members[name], draw)
        elif fault < 0.75:
            members["dataset.json"] = as_json(mutated_tree(self.labels, draw), draw)
        elif fault < 0.8:
            members["dataset.json"] = mutated_bytes(json.dumps(self.labels).encode(), draw)
        else:
            self.path = self.archive
            self.archive.write_bytes(mutated_bytes(zipped(members), draw))
            return
        self.path = self.folder
        (self.folder / "dataset.json").unlink(missing_ok=True)
        for name, content in members.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def read(self) -> None:
        names = picture_names(self.path)
        labels = class_labels(self.path, names, class_names(names))
        check_parts({"train": part_of_pictures(self.path, names, 8, center_cropped, labels)}, 8, 1 << 20)


class Parquet:
    """Parquet files of CIFAR-10; needs pyarrow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hub"
        self.folder.mkdir()
        pictures = [picture(pixels) for pixels in random_pixels(3, 32, 0)]
        for split in ("train", "test"):
            parquet(self.folder / f"{split}-00000-of-00001.parquet", "img", pictures, [0, 9, 4])
        self.path = self.folder / "train-00000-of-00001.parquet"
        self.sound = self.path.read_bytes()

    def spoil(self, draw: random.Random) -> None:
        content, footer = self.sound[:-1200], self.sound[-1200:]
        spoilt = content + mutated_bytes(footer, draw) if draw.random() < 0.5 else mutated_bytes(self.sound, draw)
        self.path.write_bytes(spoilt)

    def read(self) -> None:
        check_parts(cifar10_source(self.folder, None).read(), 32, 10)


class Mapped:
    """`MappedImages`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "images.npy"
        np.save(self.path, random_pixels(4, 8, 0))
        self.sound = self.path.read_bytes()

    def spoil(self, draw: random.Random) -> None:
        self.path.write_bytes(mutated_bytes(self.sound[:128], draw) + self.sound[128:])

    def read(self) -> None:
        images = MappedImages(self.path)
        values = images[:]
        assert tuple(values.shape) == images.shape and bool((values.abs() <= 1).all()), "images"
