"""`features=inception`: the features that published Fréchet distances are of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from fewstep.artefacts.features import Features, load_reference, reference_moments, save_reference
from fewstep.artefacts.reference_file import read_reference_file
from fewstep.artefacts.statistics import MakeTrainer
from fewstep.backbones.inception import Inception
from fewstep.data.base import Dataset, check_split
from fewstep.errors import UserError
from fewstep.files import sha256
from fewstep.run import Run, fingerprint

NAME = "inception"
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"
HASH = "6726825d"  # the first digits of the file's SHA-256


@dataclass(frozen=True)
class InceptionExtractor:
    """The Inception network of 2015, and what its features are compared with.

    Attributes:
        weights: path of `weights-inception-2015-12-05-6726825d.pth`; None: that of torch's cache, downloaded if it
            is not there.
        split: the split that is the reference; published distances on CIFAR-10 and ImageNet64 take `train`.
        reference: path of an `.npz` with the moments of the split's features, `mu` and `sigma`, as EDM publishes
            them; None: computed from the dataset's images.
        reference_images: how many images that file is of; None where it is unknown.
    """

    weights: str | None = None
    split: str = "train"
    reference: str | None = None
    reference_images: int | None = None

    def __post_init__(self) -> None:
        check_split(self.split, "features.split")
        for name in ("weights", "reference"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise UserError(f"features.{name} is {path!r}, but there is no such file.")
        if self.reference_images is not None and (self.reference is None or self.reference_images < 2):
            raise UserError(
                f"features.reference_images is {self.reference_images}, but says how many images the file "
                "features.reference is of: at least 2, and nothing without such a file."
            )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The network, and what its features are compared with."""
        return {
            "extractor": NAME,
            "weights": sha256(self._weights),
            "split": self.split,
            "reference": None if self.reference is None else sha256(Path(self.reference)),
            "reference_images": self.reference_images,
        }

    def check(self, dataset: Dataset) -> None:
        """Raise a UserError unless images are RGB."""
        if dataset.shape[0] != 3:
            raise UserError(
                f"features=inception judges RGB images, but those of {dataset.name} have shape "
                f"{list(dataset.shape)}; set features=classifier."
            )

    def make(self, root: Path, dataset: Dataset, dataset_config: Mapping[str, Any], trainer: MakeTrainer) -> Path:
        """The folder of the reference's moments, computed or read now unless it lies there already."""
        config: dict[str, Any] = {"extractor": NAME, "split": self.split}
        inputs = {"weights": self._weights}
        if self.reference is None:
            config["dataset"] = dict(dataset_config)
        else:
            config["reference_images"] = self.reference_images
            inputs["reference"] = Path(self.reference)
        folder = root / f"{NAME}-{fingerprint(config, inputs)}"
        with Run(folder, config, inputs) as run:
            if not run.complete:
                d = Inception.num_features
                if self.reference is None:
                    network = Inception.load(self._weights)
                    moments, device = reference_moments(network, d, dataset, self.split, trainer, folder)
                else:
                    moments, device = read_reference_file(Path(self.reference), d, self.reference_images), "cpu"
                save_reference(folder, moments)
                run.finish(network_calls=0, device=device, seed=None, facts={"n": moments.n})
        return folder

    def load(self, folder: Path, dataset: Dataset) -> Features:
        """Read what `make` made, and the network.

        Raises:
            UserError: a file is missing, or is not the one that was made.
        """
        return Features(NAME, Inception.load(self._weights), load_reference(folder), split=self.split)

    @cached_property
    def _weights(self) -> Path:
        """The weights file, downloaded now if none is named and none was before.

        Raises:
            UserError: it cannot be downloaded.
        """
        if self.weights is not None:
            return Path(self.weights)
        path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(URL, str(path), hash_prefix=HASH, progress=False)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"The Inception weights could not be downloaded from {URL} ({error}); download them "
                    "elsewhere and give the file's path: features.weights=…."
                ) from None
        return path
