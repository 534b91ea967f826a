"""A schedule's samples judged: their Fréchet distance, with real images as a floor, and where few steps end."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewstep.artefacts.features import Features
from fewstep.data.base import Dataset, blocks, checked_images
from fewstep.denoiser import Denoiser
from fewstep.judging.settings import Judge
from fewstep.metrics.fine_step_distance import FineStepDistance
from fewstep.metrics.frechet import FrechetDistance
from fewstep.modules.sampling import SamplingModule
from fewstep.modules.sharing import row_loader
from fewstep.results import Result
from fewstep.schedule import Schedule


def sample_rows(
    judge: Judge,
    denoiser: Denoiser,
    solver: str,
    schedule: Schedule,
    seed: int,
    labels: Mapping[str, Any],
    fine_images: Tensor | None = None,
) -> list[Result]:
    """The Fréchet distance of the samples of one seed, with its jackknife standard error.

    With `fine_images` [n, C, H, W], what many steps make of the first n noises, also `distance_pixels` and
    `distance_features`: how far the samples lie from them (fewstep.metrics.fine_step_distance), mean and standard
    error over the n images.
    """
    distance = FrechetDistance(judge.features.reference)
    module = SamplingModule(
        denoiser,
        judge.solvers[solver],
        schedule,
        judge.features.extractor,
        distance,
        n_images=judge.settings.samples,
        batch_size=judge.settings.batch_size,
        seed=seed,
        shape=judge.shape,
        levels=judge.levels,
        fine_images=fine_images,
    )
    description = f"{solver}, {schedule.steps} steps, seed {seed}"
    judge.trainer(description).test(module, row_loader(module.blocks), verbose=False)
    value, standard_error = distance.compute()
    of = dict(labels) | {
        "steps": schedule.steps,
        "nfe": module.nfe,
        "solver": solver,
        "variance": judge.solvers[solver].variance,
        "sample_seed": seed,
    }
    frechet = Result(
        **of,
        metric=judge.metric,
        value=value,
        standard_error=None if math.isnan(standard_error) else standard_error,
        n_images=judge.settings.samples,
        split="train",
    )
    return [frechet, *_comparison_rows(module.compared, of)]


def _comparison_rows(compared: FineStepDistance | None, of: Mapping[str, Any]) -> list[Result]:
    """How far samples lie from the fine-step outputs, in pixels and in features; none without a comparison."""
    if compared is None:
        return []
    names = ("distance_pixels", "distance_features")
    return [
        Result(**of, metric=name, value=value, standard_error=standard_error, n_images=len(compared.seen))
        for name, (value, standard_error) in zip(names, compared.compute(), strict=True)
    ]


def floor_row(dataset: Dataset, features: Features, metric: str, labels: Mapping[str, Any]) -> Result:
    """Real test images against the reference, as if they were samples; it falls with n, so it is no bound."""
    images = checked_images(dataset, "test")
    distance = FrechetDistance(features.reference, sync_on_compute=False)  # every device holds all images here
    with torch.inference_mode():
        for rows in blocks(images):
            distance.update(features.extractor.features(images[rows]), torch.arange(rows.start, rows.stop))
    value, standard_error = distance.compute()
    return Result(
        dataset=labels["dataset"],
        schedule_optimizer="data",
        metric=metric,
        value=value,
        standard_error=standard_error,
        n_images=len(images),
        split="train",
    )
