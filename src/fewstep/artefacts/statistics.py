"""Statistics as artefacts: computed once per (weights, data, kind, images, timesteps, noise, seed)."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytorch_lightning as pl

from fewstep.artefacts.identity import Identity
from fewstep.calls import ABOUT, Calls
from fewstep.data.base import Dataset, check_split, checked_images, checked_labels, part_of
from fewstep.errors import UserError
from fewstep.modules.progress import Progress
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.noise import check_seed
from fewstep.run import Run
from fewstep.statistics.denoising_error import NOISES, DenoisingErrorEstimator
from fewstep.statistics.fine_nodes import STEPS, TRAJECTORIES
from fewstep.statistics.storage import kind_of
from fewstep.statistics.streaming import estimator_of
from fewstep.weights import MODEL, WEIGHTS, load_model

FILE = "statistics.safetensors"
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
MakeTrainer = Callable[..., pl.Trainer]


@dataclass(frozen=True)
class Teacher:
    """The sampler of many steps that kinds of its trajectories follow.

    Attributes:
        trajectories: how many; fewer of images so large that memory should not hold these.
        steps: of each; as many as the process has timesteps where that is fewer.
    """

    trajectories: int = TRAJECTORIES
    steps: int = STEPS

    def __post_init__(self) -> None:
        for name, least in (("trajectories", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise UserError(
                    f"statistics.teacher.{name} is {getattr(self, name)}, but must be at least {least}."
                )


@dataclass(frozen=True)
class StatisticsSettings:
    """What statistics are estimated on.

    Attributes:
        split: the split behind the search; never the one that judges.
        images: how many of its images, from the first; None for all; `auto`: 32, doubled until `standard_error`.
        seed: of the noise.
        batch_size: images per network call.
        timesteps: `all` of the grid, or `auto`: as many as `regret` asks for, interpolated in between.
        noise: `common`: one ε per image for all timesteps; `fresh`: another at every timestep.
        regret: bits/dim that a schedule searched with `timesteps=auto` may cost more than with all timesteps, as
            bounded by checks of the interpolation; a share of its cost for an objective not in bits/dim.
        standard_error: of the searched schedules' bits/dim over images, at most, with `images=auto`; the whole
            split where that does not reach it.
        teacher: of kinds of a teacher's trajectories, which look at no other number of images or timesteps.
    """

    split: str = "train"
    images: int | Literal["auto"] | None = 128
    seed: int = 0
    batch_size: int = 128
    timesteps: Literal["all", "auto"] = "all"
    noise: Literal["common", "fresh"] = "common"
    regret: float = 0.01
    standard_error: float = 0.05
    teacher: Teacher = Teacher()

    def __post_init__(self) -> None:
        check_split(self.split, "statistics.split")
        check_seed(self.seed, "statistics.seed")
        if self.images != "auto" and self.images is not None and (isinstance(self.images, str) or self.images < 2):
            raise UserError(
                f"Statistics need at least 2 images; statistics.images is {self.images}, but must be such a "
                "number, auto, or null for all of the split."
            )
        for name, allowed in (("timesteps", ("all", "auto")), ("noise", NOISES)):
            if getattr(self, name) not in allowed:
                raise UserError(f"statistics.{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}.")
        for name in ("regret", "standard_error"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"statistics.{name} is {getattr(self, name)}, but must be positive, bits/dim.")
        if self.timesteps == "auto" and self.noise == "fresh":
            raise UserError(
                "With statistics.noise=fresh no timestep tells of its neighbours, so statistics.timesteps must be "
                "all, not auto."
            )
        if self.batch_size < 1:
            raise UserError(f"statistics.batch_size is {self.batch_size}, but must be at least 1.")

    @property
    def adaptive(self) -> bool:
        """Whether what is measured follows from what was measured before."""
        return self.timesteps == "auto" or self.images == "auto"


def load_statistics(kind: str) -> Callable[[Path], Any]:
    """The function that reads the file of a kind."""
    load: Callable[[Path], Any] = importlib.import_module(f"fewstep.statistics.{kind}").load
    return load


def estimator_class(kind: str) -> Callable[..., Any]:
    """What measures the kind."""
    estimator: Callable[..., Any] = importlib.import_module(f"fewstep.statistics.{kind}").Estimator
    return estimator


def split_of(kind: str, otherwise: str) -> str:
    """The split that a kind is of, whatever the others are; `otherwise` for a kind that states none."""
    return str(getattr(estimator_class(kind), "of_split", otherwise))


def own_settings(kind: str, settings: StatisticsSettings) -> dict[str, Any]:
    """What a kind takes of its own section of the settings, in place of images and timesteps; most have none."""
    module = importlib.import_module(f"fewstep.statistics.{kind}")
    section = getattr(getattr(module, "Estimator", None), "settings", None)
    return {} if section is None else asdict(getattr(settings, section))


def statistics_calls(
    kind: str, images: int, timesteps: int, settings: StatisticsSettings, shape: Sequence[int]
) -> Calls:
    """The network calls of a kind; one per image and timestep, roughly, of a kind that does not state them.

    Args:
        kind: the kind.
        images: how many.
        timesteps: how many.
        settings: for a kind that has a section of its own there, whose calls follow from it.
        shape: (C, H, W) of the images.
    """
    states, own = getattr(estimator_class(kind), "network_calls", None), own_settings(kind, settings)
    if own:
        assert states is not None
        return Calls(states(images, timesteps, shape, **own))
    return Calls(images * timesteps, mark=ABOUT) if states is None else Calls(states(images, timesteps))


def grows(kind: str) -> bool:
    """Whether statistics of a kind can be interpolated between timesteps, and joined."""
    estimator = estimator_class(kind)
    return isinstance(estimator, type) and issubclass(estimator, DenoisingErrorEstimator)


def statistics_trainer(trainer: MakeTrainer, folder: Path, settings: StatisticsSettings) -> pl.Trainer:
    """The trainer that statistics are measured on."""
    return trainer(
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        callbacks=[Progress(f"statistics on {settings.split}")],
    )


def identity_of(
    kind: str,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    arithmetic: Mapping[str, Any],
) -> dict[str, Any]:
    """What names statistics of any kind; what else does is added to it."""
    own = own_settings(kind, settings)
    return ({"own": own} if own else {}) | {
        "kind": kind,
        "dataset": dict(dataset_config),
        "split": settings.split,
        "images": settings.images,
        "seed": settings.seed,
        "noise": settings.noise,
        "trainer": dict(arithmetic),
    }


def takes_whole_split(kind: str) -> bool:
    """Whether a kind, one of no network call, takes all images that there are."""
    return bool(getattr(estimator_class(kind), "whole_split", False))


def settings_of(kind: str, settings: StatisticsSettings) -> StatisticsSettings:
    """What a kind is estimated on: its own split, and all of it, where it says so or counts in another way."""
    if takes_whole_split(kind):
        settings = replace(settings, images=None, seed=0, noise="common")
    if own_settings(kind, settings):
        settings = replace(settings, images=None, noise="common")
    return replace(settings, split=split_of(kind, settings.split))


def statistics_identity(
    kind: str,
    weights: Path,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    indices: Sequence[int] | None,
    fitted: Path | None,
    arithmetic: Mapping[str, Any],
    *,
    means: bool = False,
) -> Identity:
    """What names the statistics that `statistics_of` computes from the same arguments."""
    settings = settings_of(kind, settings)
    arithmetic = NO_SETTINGS if takes_whole_split(kind) else arithmetic
    if own_settings(kind, settings):
        indices = fitted = None
    config = identity_of(kind, dataset_config, settings, arithmetic)
    config["indices"] = "all" if indices is None else list(indices)
    if means and grows(kind):
        config["means"] = True
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL}
    if fitted is not None:
        inputs["fitted"] = fitted
    return Identity(f"{kind}-{settings.split}", config, inputs)


def statistics_of(
    kind: str,
    root: Path,
    weights: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    trainer: MakeTrainer,
    *,
    arithmetic: Mapping[str, Any] = NO_SETTINGS,
    indices: Sequence[int] | None = None,
    fitted: Path | None = None,
    means: bool = False,
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
        arithmetic: the trainer's settings that decide numbers, part of the artefact's name.
        indices: grid indices; None for the whole grid.
        fitted: the statistics file of the split that `optimal` variances are fitted on; None for these images.
        means: keep the means over images alone, of a kind that grows.
    """
    named = (kind, weights, dataset_config, settings, indices, fitted, arithmetic)
    identity = statistics_identity(*named, means=means)
    folder, settings, own = identity.folder(root), settings_of(kind, settings), own_settings(kind, settings)
    with Run(folder, identity.config, identity.inputs) as run:
        if not run.complete:
            denoiser = load_model(weights)
            assert settings.images != "auto"  # fewstep.artefacts.search_statistics finds the number
            images = part_of(checked_images(dataset, settings.split), 0, settings.images)
            labels = checked_labels(dataset, settings.split, denoiser.num_classes)
            labels = None if labels is None else labels[: settings.images]
            make = partial(
                estimator_class(kind),
                split=settings.split,
                levels=dataset.levels,
                seed=settings.seed,
                batch_size=settings.batch_size,
                noise=settings.noise,
                fitted=None if fitted is None or own else load_statistics(kind_of(fitted))(fitted),
                **own,
            )
            where = range(1, denoiser.process.T + 1) if indices is None else indices
            measured_by = partial(estimator_of, make, means=means) if grows(kind) else make
            estimator = measured_by(images, labels, indices=where)
            made = statistics_trainer(trainer, folder, settings)
            measured = measured_rows(made, StatisticsModule(denoiser, estimator))
            statistics = estimator.collect(denoiser.process, measured)
            statistics.save(folder / FILE)
            run.finish(network_calls=statistics.calls, device=str(made.strategy.root_device), seed=settings.seed)
    return folder / FILE
