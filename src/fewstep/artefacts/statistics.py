"""Statistics as artefacts: computed once per (weights, data, kind, images, timesteps, seed), then shared."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fewstep.data.base import Dataset, check_split, checked_images
from fewstep.errors import UserError
from fewstep.modules.progress import Progress
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.noise import check_seed
from fewstep.run import Run, fingerprint
from fewstep.weights import MODEL, WEIGHTS, load_model

FILE = "statistics.safetensors"
MakeTrainer = Callable[..., pl.Trainer]


@dataclass(frozen=True)
class StatisticsSettings:
    """What statistics are estimated on.

    Attributes:
        split: the split behind the search; never the one that judges.
        images: how many of its images, from the first; None for all.
        seed: of the noise, one ε per image common to all timesteps.
        batch_size: images per network call.
    """

    split: str = "train"
    images: int | None = 128
    seed: int = 0
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_split(self.split, "statistics.split")
        check_seed(self.seed, "statistics.seed")
        if self.images is not None and self.images < 2:
            raise UserError(f"Statistics need at least 2 images; statistics.images is {self.images}.")
        if self.batch_size < 1:
            raise UserError(f"statistics.batch_size is {self.batch_size}, but must be at least 1.")


def load_statistics(kind: str) -> Callable[[Path], Any]:
    """The function that reads the file of a kind."""
    load: Callable[[Path], Any] = importlib.import_module(f"fewstep.statistics.{kind}").load
    return load


def estimator_class(kind: str) -> Callable[..., Any]:
    """What measures the kind."""
    estimator: Callable[..., Any] = importlib.import_module(f"fewstep.statistics.{kind}").Estimator
    return estimator


def statistics_of(
    kind: str,
    root: Path,
    weights: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    trainer: MakeTrainer,
    *,
    indices: Sequence[int] | None = None,
    fitted: Path | None = None,
) -> Path:
    """The path of the statistics file of a kind, computed now unless it lies there already.

    Args:
        kind: a file of fewstep.statistics.
        root: the folder of all statistics.
        weights: the folder of the model.
        dataset: the data.
        dataset_config: what it was built from, part of the artefact's name.
        settings: split, images, seed.
        trainer: makes the trainer that the network runs on.
        indices: grid indices; None for the whole grid.
        fitted: the statistics file of the split that `optimal` variances are fitted on; None for these images.
    """
    config = {
        "kind": kind,
        "dataset": dict(dataset_config),
        "split": settings.split,
        "images": settings.images,
        "seed": settings.seed,
        "indices": "all" if indices is None else list(indices),
    }
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL}
    if fitted is not None:
        inputs["fitted"] = fitted
    folder = root / f"{kind}-{settings.split}-{fingerprint(config, inputs)}"
    with Run(folder, config, inputs) as run:
        if not run.complete:
            denoiser = load_model(weights)
            images = checked_images(dataset, settings.split)[: settings.images]
            estimator = estimator_class(kind)(
                images,
                None,
                split=settings.split,
                levels=dataset.levels,
                indices=range(1, denoiser.process.T + 1) if indices is None else indices,
                seed=settings.seed,
                batch_size=settings.batch_size,
                fitted=None if fitted is None else load_statistics(kind)(fitted),
            )
            made = trainer(
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                callbacks=[Progress(f"statistics on {settings.split}")],
            )
            measured = measured_rows(made, StatisticsModule(denoiser, estimator))
            statistics = estimator.collect(denoiser.process, measured)
            statistics.save(folder / FILE)
            run.finish(network_calls=statistics.calls, device=str(made.strategy.root_device), seed=settings.seed)
    return folder / FILE
