"""The first step's term in improved-diffusion's own arithmetic, an artefact beside the statistics that judge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.artefacts.statistics import (
    FILE,
    MakeTrainer,
    StatisticsSettings,
    identity_of,
    load_statistics,
    statistics_trainer,
)
from fewstep.data.base import Dataset, checked_images, checked_labels, part_of
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.run import Run, fingerprint
from fewstep.schedule import Schedule
from fewstep.statistics.clipped_denoising_error import KIND as CLIPPED
from fewstep.statistics.tanh_decoder import KIND, TanhDecoderEstimator
from fewstep.weights import MODEL, WEIGHTS, load_model


def first_pairs(judged: Sequence[Path], at: Sequence[Path] | None) -> list[tuple[int, int]]:
    """(n_1, n_2) of schedule files, and the full grid's where all of it is measured.

    That is where `at` is None or the timesteps of the schedules in it are all.
    """
    schedules = [Schedule.load(path) for path in judged]
    pairs = [(schedule.indices[1], schedule.indices[2]) for schedule in schedules]
    measured = {index for path in at or () for index in Schedule.load(path).indices[1:]}
    full_grid = at is None or any(len(measured) == schedule.process.T for schedule in schedules)
    return [*pairs, (1, 2)] if full_grid else pairs


def tanh_decoder_of(
    root: Path,
    weights: Path,
    dataset: Dataset,
    dataset_config: Mapping[str, Any],
    settings: StatisticsSettings,
    trainer: MakeTrainer,
    arithmetic: Mapping[str, Any],
    clipped: Path,
    pairs: Sequence[tuple[int, int]],
) -> Path:
    """The path of the file of the terms at pairs of first nodes, computed now unless it lies there already.

    One network call per image and distinct n_1.

    Args:
        root: the folder of all statistics.
        weights: the folder of the model.
        dataset: the data.
        dataset_config: what it was built from, part of the artefact's name.
        settings: split, images and seed that the file `clipped` was measured with.
        trainer: makes the trainer that the network runs on.
        arithmetic: the trainer's settings that decide numbers, part of the artefact's name.
        clipped: the statistics of the clipped x̂_0 that hold the other terms, and e/D for `optimal`.
        pairs: (n_1, n_2) of every schedule to be judged, grid indices.
    """
    pairs = sorted(set(pairs))
    config = identity_of(KIND, dataset_config, settings, arithmetic) | {"pairs": [list(pair) for pair in pairs]}
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL, "other terms": clipped}
    folder = root / f"{KIND}-{settings.split}-{fingerprint(config, inputs)}"
    with Run(folder, config, inputs) as run:
        if not run.complete:
            denoiser, others = load_model(weights), load_statistics(CLIPPED)(clipped)
            labels = checked_labels(dataset, settings.split, denoiser.num_classes)
            estimator = TanhDecoderEstimator(
                part_of(checked_images(dataset, settings.split), 0, others.n_images),
                None if labels is None else labels[: others.n_images],
                pairs=pairs,
                fitted_error=others.fitted_error[others.rows([first for first, _ in pairs])],
                split=settings.split,
                levels=dataset.levels,
                seed=settings.seed,
                batch_size=settings.batch_size,
                noise=settings.noise,
            )
            made = statistics_trainer(trainer, folder, settings)
            measured = measured_rows(made, StatisticsModule(denoiser, estimator))
            terms = estimator.collect(denoiser.process, measured)
            terms.save(folder / FILE)
            run.finish(network_calls=terms.calls, device=str(made.strategy.root_device), seed=settings.seed)
    return folder / FILE
