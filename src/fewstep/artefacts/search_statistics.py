"""Statistics behind a search as an artefact, measured at as few timesteps and images as the search needs.

They are refined for all objectives and K's of a run together, which name the artefact beside what names any other
statistics. The file holds means over images of what was measured; `load_search_statistics` interpolates it. A run
that was cut short begins again and ends with the same bits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fewstep.artefacts.identity import Identity
from fewstep.artefacts.statistics import (
    FILE,
    NO_SETTINGS,
    MakeTrainer,
    StatisticsSettings,
    estimator_class,
    grows,
    identity_of,
    load_statistics,
    statistics_trainer,
)
from fewstep.data.base import Dataset, Images, checked_images, checked_labels, part_of
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.objectives.base import NATS, Objective
from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.run import Run, read_record
from fewstep.statistics.denoising_error import KIND
from fewstep.statistics.growing import FIRST_IMAGES, GrowingStatistics, Needs, grow
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import averaged
from fewstep.statistics.streaming import estimator_of
from fewstep.weights import MODEL, WEIGHTS, load_model


@dataclass(frozen=True)
class Purpose:
    """What statistics are for.

    Attributes:
        objectives: those of the run.
        configs: what each was built from.
        steps: the K's.
    """

    objectives: Sequence[Objective]
    configs: Sequence[Mapping[str, Any]]
    steps: Sequence[int]

    def reading(self, kind: str) -> "Purpose":
        """Of these objectives those that read one kind of statistics alone."""
        chosen = [number for number, objective in enumerate(self.objectives) if tuple(objective.needs) == (kind,)]
        return replace(
            self,
            objectives=[self.objectives[number] for number in chosen],
            configs=[dict(self.configs[number]) for number in chosen],
        )


def purpose_of(
    schedule_optimizers: Mapping[str, Mapping[str, Any]],
    steps: Sequence[int],
    variances: Sequence[str],
    build: Callable[[Any], Any],
) -> Purpose:
    """What statistics behind a search are for: every objective of some schedule optimizers, under every variance.

    The negative ELBO is one of them in any case, because it judges every schedule.
    """
    configs: list[dict[str, Any]] = []
    for optimizer in schedule_optimizers.values():
        node = optimizer.get("objective") or {}
        nodes = [{**node, "variance": name} for name in variances] if "variance" in node else [dict(node)]
        configs += [config for config in nodes if config and config not in configs]
    purpose = Purpose([build(config) for config in configs], configs, list(steps))
    if purpose.reading(KIND).objectives:
        return purpose
    judges = [ElboObjective(variance) for variance in variances]
    named = [{"judge": judge.name, "variance": judge.variance} for judge in judges]
    return replace(purpose, objectives=[*purpose.objectives, *judges], configs=[*configs, *named])


def check_images_setting(kind: str, settings: StatisticsSettings, purpose: Purpose) -> None:
    """Raise a UserError where images are `auto` and no objective that reads a kind that grows is in bits/dim."""
    names = [one.name for one in purpose.reading(kind).objectives if one.unit != NATS]
    if settings.images == "auto" and grows(kind) and len(names) == len(purpose.reading(kind).objectives) > 0:
        raise UserError(
            f"statistics.images=auto needs an objective in bits/dim, such as elbo; here there is only "
            f"{', '.join(names)}. Give statistics.images a number."
        )


def load_search_statistics(kind: str) -> Callable[[Path], Any]:
    """The function that reads the file of a kind and interpolates what was measured at some timesteps alone."""
    load = load_statistics(kind)
    return (lambda path: interpolated(load(path))) if grows(kind) else load


def needs_of(settings: StatisticsSettings) -> Needs:
    """How good the settings ask statistics to be."""
    return Needs(
        regret=settings.regret if settings.timesteps == "auto" else None,
        standard_error=settings.standard_error if settings.images == "auto" else None,
    )


def search_statistics_identity(
    kind: str,
    weights: Path,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    purpose: Purpose,
    arithmetic: Mapping[str, Any],
) -> Identity:
    """What names the statistics that `search_statistics_of` computes from the same arguments."""
    purpose = purpose.reading(kind)
    config = identity_of(kind, dataset_config, settings, arithmetic) | {
        "timesteps": settings.timesteps,
        "regret": needs_of(settings).regret,
        "standard_error": needs_of(settings).standard_error,
        "objectives": list(purpose.configs),
        "steps": list(purpose.steps),
    }
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL}
    return Identity(f"{kind}-{settings.split}", config, inputs)


def search_statistics_of(
    kind: str,
    root: Path,
    weights: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    trainer: MakeTrainer,
    purpose: Purpose,
    arithmetic: Mapping[str, Any] = NO_SETTINGS,
) -> Path:
    """The path of the statistics file of a kind for a purpose, computed now unless it lies there already.

    Args:
        kind: one that grows.
        root: the folder of all statistics.
        weights: the folder of the model.
        dataset: the data.
        dataset_config: what it was built from, part of the artefact's name.
        settings: with `auto` timesteps, images or both.
        trainer: makes the trainer that the network runs on.
        purpose: what the statistics are for; objectives that do not read this kind alone have no say.
        arithmetic: the trainer's settings that decide numbers, part of the artefact's name.

    Raises:
        UserError: images are `auto` and no objective is in bits/dim.
    """
    check_images_setting(kind, settings, purpose)
    purpose = purpose.reading(kind)
    identity = search_statistics_identity(kind, weights, dataset_config, settings, purpose, arithmetic)
    folder = identity.folder(root)
    with Run(folder, identity.config, identity.inputs) as run:
        if not run.complete:
            denoiser = load_model(weights)
            images = checked_images(dataset, settings.split)
            most = len(images) if settings.images in ("auto", None) else min(int(settings.images), len(images))
            made = statistics_trainer(trainer, folder, settings)

            measure = _measuring(kind, dataset, images, settings, denoiser, made)
            begun = min(FIRST_IMAGES, most) if settings.images == "auto" else most
            grown = grow(
                GrowingStatistics(measure, begun),
                denoiser.process,
                purpose.objectives,
                kind,
                purpose.steps,
                needs_of(settings),
                most,
            )
            averaged(grown.measured).save(folder / FILE)
            run.finish(
                network_calls=grown.calls,
                device=str(made.strategy.root_device),
                seed=settings.seed,
                facts={
                    "timesteps": len(grown.measured.indices),
                    "grid_timesteps": denoiser.process.T,
                    "images": grown.measured.n_images,
                    "split_images": len(images),
                    "regret_bound": grown.regret_bound,
                    "standard_error": None if math.isnan(grown.standard_error) else grown.standard_error,
                },
            )
    return folder / FILE


def _measuring(
    kind: str,
    dataset: Dataset,
    images: Images,
    settings: StatisticsSettings,
    denoiser: Denoiser,
    trainer: pl.Trainer,
) -> Callable[[Sequence[int], range], DenoisingError]:
    """What measures a kind at given grid indices, on the images of given numbers, on the trainer's devices."""
    labels = checked_labels(dataset, settings.split, denoiser.num_classes)
    make = partial(
        estimator_class(kind),
        split=settings.split,
        levels=dataset.levels,
        seed=settings.seed,
        batch_size=settings.batch_size,
        noise=settings.noise,
    )

    def measure(indices: Sequence[int], numbers: range) -> DenoisingError:
        """Statistics of images `numbers` at `indices`, one network call per image and timestep."""
        estimator = estimator_of(
            make,
            part_of(images, numbers.start, numbers.stop),
            None if labels is None else labels[numbers.start : numbers.stop],
            indices=indices,
            first=numbers.start,
            extensible=settings.images == "auto",
            means=settings.images != "auto",
        )
        rows = measured_rows(trainer, StatisticsModule(denoiser, estimator))
        found: DenoisingError = estimator.collect(denoiser.process, rows)
        return found

    return measure


def statistics_rows(
    folders: Sequence[Path], settings: StatisticsSettings, labels: Mapping[str, Any]
) -> list[Result]:
    """What searches did with, and what that may have cost: rows that say so, the kinds together.

    `statistics_timesteps` and `statistics_timesteps_all` count timesteps, `statistics_images` images and
    `statistics_images_all` those of the split, `statistics_calls` network calls and `statistics_calls_all` those
    at all timesteps; `statistics_regret_bound` and `statistics_standard_error` are bits/dim.
    """
    facts = [record["facts"] | {"calls": record["network_calls"]} for record in map(read_record, folders)]
    if not facts:
        return []
    numbers = {
        "statistics_timesteps": max(fact["timesteps"] for fact in facts),
        "statistics_timesteps_all": facts[0]["grid_timesteps"],
        "statistics_images": max(fact["images"] for fact in facts),
        "statistics_calls": sum(fact["calls"] for fact in facts),
        "statistics_calls_all": sum(fact["grid_timesteps"] * fact["images"] for fact in facts),
    }
    if settings.timesteps == "auto":
        numbers["statistics_regret_bound"] = max(fact["regret_bound"] for fact in facts)
    if settings.images == "auto":
        numbers["statistics_images_all"] = facts[0]["split_images"]
        numbers["statistics_standard_error"] = max(fact["standard_error"] for fact in facts)
        numbers["statistics_standard_error_wanted"] = settings.standard_error
    return [
        Result(**labels, metric=metric, value=value, n_images=numbers["statistics_images"], split=settings.split)
        for metric, value in numbers.items()
    ]
