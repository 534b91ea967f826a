"""Statistics at a few timesteps in float32 and in the run's precision, to tell what the precision costs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fewstep.artefacts.statistics import MakeTrainer, StatisticsSettings, statistics_of
from fewstep.data.base import Dataset
from fewstep.modules.trainers import FLOAT32, precision_of
from fewstep.process import Process
from fewstep.statistics.denoising_error import KIND
from fewstep.statistics.refinement import even_in_log_snr
from fewstep.weights import read_model

IMAGES, TIMESTEPS = 32, 8


class PrecisionFiles(NamedTuple):
    """The same images and noises at the same timesteps.

    Attributes:
        precision: the run's, by Lightning's name.
        lower: statistics in it.
        full: in float32.
    """

    precision: str
    lower: Path
    full: Path


def precision_files_of(
    root: Path,
    weights: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    trainer: MakeTrainer,
    arithmetic: Mapping[str, Any],
) -> PrecisionFiles | None:
    """The files, made now unless they lie there; None where the run is in float32.

    `few_statistics` says of what.
    """
    precision = precision_of(arithmetic)
    if precision == FLOAT32:
        return None
    few, indices = few_statistics(settings, Process.from_definition(read_model(weights)["process"]))
    lower, full = (
        statistics_of(
            *(KIND, root, weights, dataset, dataset_config, few, made), arithmetic=settled, indices=indices
        )
        for made, settled in (
            (trainer, arithmetic),
            (partial(trainer, precision=FLOAT32), in_float32(arithmetic)),
        )
    )
    return PrecisionFiles(precision, lower, full)


def few_statistics(settings: StatisticsSettings, process: Process) -> tuple[StatisticsSettings, list[int]]:
    """The first `IMAGES` images of the split behind the search, and some `TIMESTEPS` even in log-SNR."""
    few = StatisticsSettings(
        split=settings.split, images=IMAGES, seed=settings.seed, batch_size=settings.batch_size
    )
    return few, even_in_log_snr(process, TIMESTEPS)


def in_float32(arithmetic: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings in float32."""
    return {**arithmetic, "precision": FLOAT32}
