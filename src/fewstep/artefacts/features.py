"""The feature extractor that judges samples, and its reference, as an artefact."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.artefacts.statistics import MakeTrainer
from fewstep.backbones.classifier import Classifier
from fewstep.data.base import Dataset, blocks, checked_images
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.metrics.frechet import FeatureMoments
from fewstep.modules.classifier import ClassifierModule, accuracy
from fewstep.modules.progress import Progress
from fewstep.modules.trainers import FLOAT32
from fewstep.noise import check_seed
from fewstep.run import Run, check_output, fingerprint, read_record
from fewstep.weights import load_weights, save_weights

EXTRACTOR, REFERENCE = "classifier.safetensors", "reference.safetensors"


@dataclass(frozen=True)
class FeatureSettings:
    """How the classifier is trained whose features judge samples.

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


@dataclass(frozen=True)
class Features:
    """A trained extractor, the moments of the training split's features, and how good a classifier it is."""

    extractor: Classifier
    reference: FeatureMoments
    accuracy: float
    n_test: int


def features_of(
    root: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: FeatureSettings,
    trainer: MakeTrainer,
) -> Path:
    """The folder of the extractor, trained now unless it lies there already."""
    config = {"dataset": dict(dataset_config), "features": asdict(settings)}
    folder = root / f"classifier-{fingerprint(config, {})}"
    with Run(folder, config) as run:
        if not run.complete:
            pl.seed_everything(settings.seed, verbose=False)
            images = checked_images(dataset, "train")
            labels, test_labels = (_labels(dataset, split) for split in ("train", "test"))
            if settings.batch_size > len(images):
                raise UserError(
                    f"features.batch_size is {settings.batch_size}, but {dataset.name} has {len(images)} training "
                    "images."
                )
            classifier = _classifier(dataset, settings, int(labels.max()) + 1)
            module = ClassifierModule(
                classifier,
                images,
                labels,
                learning_rate=settings.learning_rate,
                batch_size=settings.batch_size,
                seed=settings.seed,
            )
            made = trainer(
                precision=FLOAT32,  # every run has the same judge
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                max_epochs=settings.epochs,
                callbacks=[Progress("classifier")],
            )
            made.fit(module)
            classifier = classifier.cpu().eval()
            with torch.inference_mode():
                moments = FeatureMoments.of_parts(classifier.features(images[rows]) for rows in blocks(images))
            save_weights(folder / EXTRACTOR, classifier)
            tensors = {"mean": moments.mean, "covariance": moments.covariance, "n": torch.tensor(moments.n)}
            write_atomically(folder / REFERENCE, lambda temporary: save_file(tensors, temporary))
            test = checked_images(dataset, "test")
            facts = {
                "config": classifier.config,
                "accuracy": accuracy(classifier, test, test_labels),
                "n_test": len(test),
            }
            device = str(made.strategy.root_device)
            run.finish(network_calls=0, device=device, seed=settings.seed, facts=facts)
    return folder


def load_features(folder: Path) -> Features:
    """Read what `features_of` made.

    Raises:
        UserError: a file is missing, or is not the one that was made.
    """
    for name in (EXTRACTOR, REFERENCE):
        check_output(folder / name)
    facts = read_record(folder)["facts"]
    classifier = Classifier(**facts["config"])
    load_weights(folder / EXTRACTOR, classifier)
    tensors = load_file(folder / REFERENCE)
    reference = FeatureMoments(tensors["mean"], tensors["covariance"], int(tensors["n"]))
    return Features(classifier.eval(), reference, facts["accuracy"], facts["n_test"])


def _labels(dataset: Dataset, split: str) -> Tensor:
    """What the classifier learns."""
    labels = dataset.labels(split)
    if labels is None:
        raise UserError(
            f"Samples are judged by a classifier's features, but {dataset.name} has no labels to train one on; "
            "take a dataset with labels, or other features."
        )
    return labels


def _classifier(dataset: Dataset, settings: FeatureSettings, num_classes: int) -> Classifier:
    channels, size, _ = dataset.shape
    return Classifier(
        in_channels=channels,
        image_size=size,
        num_classes=num_classes,
        width=settings.width,
        num_features=settings.num_features,
    )
