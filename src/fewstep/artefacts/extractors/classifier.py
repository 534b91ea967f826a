"""`features=classifier`: the features of a small classifier, trained on the dataset's own classes."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from fewstep.artefacts.features import Features, in_float32, load_reference, reference_moments, save_reference
from fewstep.artefacts.statistics import MakeTrainer
from fewstep.backbones.classifier import Classifier
from fewstep.data.base import Dataset, checked_images
from fewstep.errors import UserError
from fewstep.modules.classifier import ClassifierModule, accuracy
from fewstep.modules.progress import Progress
from fewstep.modules.trainers import on_one_device
from fewstep.noise import check_seed
from fewstep.ranks import of_first
from fewstep.run import Run, check_output, fingerprint, read_record
from fewstep.weights import load_weights, save_weights

EXTRACTOR = "classifier.safetensors"


@dataclass(frozen=True)
class ClassifierExtractor:
    """How the classifier is trained whose features judge samples; metrics are named after its dataset.

    Attributes:
        epochs: passes over the training split.
        batch_size: images per iteration.
        learning_rate: the peak of a one-cycle schedule.
        width: channels of its first stage.
        num_features: d.
        seed: of its weights and its batches; not the run's, so that every run has the same judge.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    width: int = 32
    num_features: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.width, self.num_features) < 1:
            raise UserError("features.epochs, batch_size, width and num_features must each be at least 1.")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"features.learning_rate is {self.learning_rate}, but must be positive.")
        check_seed(self.seed, "features.seed")

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its settings."""
        return asdict(self)

    def check(self, dataset: Dataset) -> None:
        """Any images will do."""

    def make(self, root: Path, dataset: Dataset, dataset_config: Mapping[str, Any], trainer: MakeTrainer) -> Path:
        """The folder of the classifier, trained now unless it lies there already."""
        config = {"dataset": dict(dataset_config), "features": self.identity}
        folder = root / f"classifier-{fingerprint(config, {})}"
        with Run(folder, config) as run:
            if not run.complete:
                # Batches of several devices would be others, and so would the judge.
                alone = on_one_device(trainer)
                classifier, device = of_first(lambda: self._trained(dataset, alone, folder))
                moments, _ = reference_moments(classifier, self.num_features, dataset, "train", trainer, folder)
                save_weights(folder / EXTRACTOR, classifier)
                save_reference(folder, moments)
                test = checked_images(dataset, "test")
                facts = {
                    "config": classifier.config,
                    "accuracy": accuracy(classifier, test, _labels(dataset, "test")),
                    "n_test": len(test),
                }
                run.finish(network_calls=0, device=device, seed=self.seed, facts=facts)
        return folder

    def load(self, folder: Path, dataset: Dataset) -> Features:
        """Read what `make` made.

        Raises:
            UserError: a file is missing, or is not the one that was made.
        """
        check_output(folder / EXTRACTOR)
        facts = read_record(folder)["facts"]
        classifier = Classifier(**facts["config"])
        load_weights(folder / EXTRACTOR, classifier)
        return Features(
            dataset.name,
            classifier.eval(),
            load_reference(folder),
            accuracy=facts["accuracy"],
            n_test=facts["n_test"],
        )

    def _trained(self, dataset: Dataset, trainer: MakeTrainer, folder: Path) -> tuple[Classifier, str]:
        """The classifier, in evaluation mode on the CPU, and the device that it was trained on."""
        pl.seed_everything(self.seed, verbose=False)
        images, labels = checked_images(dataset, "train"), _labels(dataset, "train")
        if self.batch_size > len(images):
            raise UserError(
                f"features.batch_size is {self.batch_size}, but {dataset.name} has {len(images)} training images."
            )
        channels, size, _ = dataset.shape
        classifier = Classifier(
            in_channels=channels,
            image_size=size,
            num_classes=int(labels.max()) + 1,
            width=self.width,
            num_features=self.num_features,
        )
        module = ClassifierModule(
            classifier,
            images,
            labels,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        made = in_float32(trainer)(
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            max_epochs=self.epochs,
            callbacks=[Progress("classifier")],
        )
        made.fit(module)
        return classifier.cpu().eval(), str(made.strategy.root_device)


def _labels(dataset: Dataset, split: str) -> Tensor:
    """What the classifier learns."""
    labels = dataset.labels(split)
    if labels is None:
        raise UserError(
            f"Samples are judged by a classifier's features, but {dataset.name} has no labels to train one on; "
            "take a dataset with labels, or other features."
        )
    return labels
