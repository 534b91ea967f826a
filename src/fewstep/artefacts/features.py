"""What judges samples, as an artefact: a feature extractor and the features of the reference's images.

A feature extractor is a file in `fewstep.artefacts.extractors` and one in conf/features/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.artefacts.statistics import MakeTrainer
from fewstep.data.base import Dataset, checked_images
from fewstep.files import write_atomically
from fewstep.metrics.frechet import FeatureMoments
from fewstep.metrics.moments import FeatureSums
from fewstep.modules.features import RealFeatures
from fewstep.modules.progress import Progress
from fewstep.modules.sharing import predict_rows, update_metrics
from fewstep.modules.trainers import FLOAT32
from fewstep.run import Run, check_output, fingerprint

REFERENCE, KEPT = "reference.safetensors", "features.safetensors"


@dataclass(frozen=True)
class Features:
    """An extractor and the moments of the reference's features.

    Attributes:
        name: what metrics are named after, as in fid_inception.
        extractor: has `features(images) -> [B, d]`, images in [-1, 1], and `num_features`, d.
        reference: the moments.
        split: the split whose images are the reference.
        accuracy: the share of test images that the extractor classifies rightly; None where it does not.
        n_test: how many test images there were.
    """

    name: str
    extractor: nn.Module
    reference: FeatureMoments
    split: str = "train"
    accuracy: float | None = None
    n_test: int | None = None


class FeatureExtractor(Protocol):
    """The settings of an extractor, and how it is made: what a file of conf/features/ builds."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the features depend on besides the dataset, plain data; part of the names of evaluations."""
        ...

    def check(self, dataset: Dataset) -> None:
        """Raise a UserError, before any work, unless the dataset's images can be judged."""
        ...

    def make(self, root: Path, dataset: Dataset, dataset_config: Mapping[str, Any], trainer: MakeTrainer) -> Path:
        """The folder of the extractor and its reference, made now unless it lies there already."""
        ...

    def load(self, folder: Path, dataset: Dataset) -> Features:
        """Read what `make` made."""
        ...


def reference_moments(
    extractor: nn.Module, num_features: int, dataset: Dataset, split: str, trainer: MakeTrainer, folder: Path
) -> tuple[FeatureMoments, str]:
    """The moments of a split's features [n, d], d = num_features, and the device that they were computed on."""
    sums = FeatureSums(num_features)
    module = RealFeatures(extractor, checked_images(dataset, split), metrics=[sums])
    made = judging_trainer(in_float32(trainer), folder, f"features of {split}")
    update_metrics(made, module, module.blocks)
    return sums.moments(), str(made.strategy.root_device)


def save_reference(folder: Path, moments: FeatureMoments) -> None:
    """Write moments as `REFERENCE`; n = 0 stands for an unknown number of images."""
    tensors = {"mean": moments.mean, "covariance": moments.covariance, "n": torch.tensor(moments.n or 0)}
    write_atomically(folder / REFERENCE, lambda temporary: save_file(tensors, temporary))


def load_reference(folder: Path) -> FeatureMoments:
    """Read what `save_reference` wrote.

    Raises:
        UserError: the file is missing, or is not the one that was made.
    """
    check_output(folder / REFERENCE)
    tensors = load_file(folder / REFERENCE)
    return FeatureMoments(tensors["mean"], tensors["covariance"], int(tensors["n"]) or None)


def kept_features_of(
    root: Path,
    made: Path,
    features: Features,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    most: int,
    trainer: MakeTrainer,
) -> Path:
    """The folder of reference images' features, for metrics that need each; computed now unless it lies there.

    Args:
        root: the folder of all features.
        made: the folder of the extractor, whose name says what it is.
        features: the extractor.
        dataset: the data.
        dataset_config: what it was built from.
        most: how many images at most, spread evenly over the split.
        trainer: makes the trainer.
    """
    config = {"features": made.name, "dataset": dict(dataset_config), "split": features.split, "most": most}
    folder = root / f"kept-{fingerprint(config, {})}"
    with Run(folder, config) as run:
        if not run.complete:
            images = checked_images(dataset, features.split)
            n = min(most, len(images))
            chosen = torch.arange(n) * len(images) // n
            module = RealFeatures(features.extractor, images, chosen)
            working = judging_trainer(in_float32(trainer), folder, f"features of {features.split}")
            kept = {"features": torch.cat(predict_rows(working, module, module.blocks))}
            write_atomically(folder / KEPT, lambda temporary: save_file(kept, temporary))
            run.finish(network_calls=0, device=str(working.strategy.root_device), seed=None, facts={"n": n})
    return folder


def load_kept_features(folder: Path) -> Tensor:
    """Float32 [n, d], what `kept_features_of` made."""
    check_output(folder / KEPT)
    return load_file(folder / KEPT)["features"]


def judging_trainer(trainer: MakeTrainer, folder: Path, description: str) -> pl.Trainer:
    """A trainer that judges; `description` stands before its progress bar."""
    return trainer(
        default_root_dir=folder, logger=False, enable_checkpointing=False, callbacks=[Progress(description)]
    )


def in_float32(trainer: MakeTrainer) -> MakeTrainer:
    """What makes the same trainers in float32: every run has the same judge, whatever its own precision."""
    return partial(trainer, precision=FLOAT32)
