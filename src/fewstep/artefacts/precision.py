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

    Of the first `IMAGES` images of the split behind the search, at some `TIMESTEPS` even in log-SNR.
    """
    precision = precision_of(arithmetic)
    if precision == FLOAT32:
        return None
    few = StatisticsSettings(
        split=settings.split, images=IMAGES, seed=settings.seed, batch_size=settings.batch_size
    )
    indices = even_in_log_snr(Process.from_definition(read_model(weights)["process"]), TIMESTEPS)
    in_float32 = partial(trainer, precision=FLOAT32)
    lower, full = (
        statistics_of(
            *(KIND, root, weights, dataset, dataset_config, few, made), arithmetic=settled, indices=indices
        )
        for made, settled in ((trainer, arithmetic), (in_float32, {**arithmetic, "precision": FLOAT32}))
    )
    return PrecisionFiles(precision, lower, full)
