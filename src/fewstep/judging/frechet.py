"""A schedule's samples judged: Fréchet distance and other metrics, real images as a floor, where few steps end."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fewstep.artefacts.features import Features
from fewstep.data.base import Dataset, checked_images
from fewstep.denoiser import Denoiser
from fewstep.judging.settings import Judge
from fewstep.metrics.fine_step_distance import FineStepDistance
from fewstep.metrics.frechet import FrechetDistance
from fewstep.metrics.kept_features import KeptFeatures
from fewstep.modules.features import RealFeatures
from fewstep.modules.sampling import SamplingModule
from fewstep.modules.sharing import update_metrics
from fewstep.ranks import of_first
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
    """The Fréchet distance of the samples of one seed, with its jackknife standard error, and other metrics.

    With `fine_images` [n, C, H, W], what many steps make of the first n noises, also `distance_pixels` and
    `distance_features`: how far the samples lie from them (fewstep.metrics.fine_step_distance), mean and standard
    error over the n images.
    """
    distance = FrechetDistance(judge.features.reference)
    others = judge.kept_metrics(judge.settings.samples)
    module = SamplingModule(
        denoiser,
        judge.solvers[solver],
        schedule,
        judge.features.extractor,
        [distance, *others],
        n_images=judge.settings.samples,
        batch_size=judge.settings.batch_size,
        seed=seed,
        shape=judge.shape,
        levels=judge.levels,
        fine_images=fine_images,
    )
    description = f"{solver}, {schedule.steps} steps, seed {seed}"
    update_metrics(judge.trainer(description), module, module.blocks)
    of = dict(labels) | {
        "steps": schedule.steps,
        "nfe": of_first(lambda: module.nfe),
        "solver": solver,
        "variance": judge.solvers[solver].variance,
        "sample_seed": seed,
    }
    judged = _quality_rows(judge.features, distance, others, judge.settings.samples, of)
    return [*judged, *_comparison_rows(module.compared, of)]


def _quality_rows(
    features: Features, distance: FrechetDistance, others: Sequence[KeptFeatures], n: int, of: Mapping[str, Any]
) -> list[Result]:
    """`fid_<features>`, and a row for each measure of the other metrics; n is the number of images judged."""
    measures = {"fid": distance.compute()}
    for metric in others:
        measures |= metric.compute()
    return [
        Result(
            **of,
            metric=f"{name}_{features.name}",
            value=value,
            standard_error=None if math.isnan(standard_error) else standard_error,
            n_images=n,
            split=features.split,
        )
        for name, (value, standard_error) in measures.items()
    ]


def _comparison_rows(compared: FineStepDistance | None, of: Mapping[str, Any]) -> list[Result]:
    """How far samples lie from the fine-step outputs, in pixels and in features; none without a comparison."""
    if compared is None:
        return []
    names = ("distance_pixels", "distance_features")
    return [
        Result(**of, metric=name, value=value, standard_error=standard_error, n_images=len(compared.seen))
        for name, (value, standard_error) in zip(names, compared.compute(), strict=True)
    ]


def floor_rows(judge: Judge, dataset: Dataset, labels: Mapping[str, Any]) -> list[Result]:
    """Real images against the reference, as if they were samples; a distance falls with n, so it is no bound.

    They are those of the test split; where that is the reference, of validation.
    """
    features = judge.features
    images = checked_images(dataset, "test" if features.split != "test" else "validation")
    distance, others = FrechetDistance(features.reference), judge.kept_metrics(len(images))
    module = RealFeatures(features.extractor, images, metrics=[distance, *others])
    update_metrics(judge.trainer("real images"), module, module.blocks)
    of = {"dataset": labels["dataset"], "schedule_optimizer": "data"}
    return _quality_rows(features, distance, others, len(images), of)


def feature_rows(features: Features, labels: Mapping[str, Any]) -> list[Result]:
    """What is known of the judge: `feature_accuracy` on test images, and how many `reference_images`."""
    rows = []
    if features.accuracy is not None and features.n_test is not None:
        accuracy, n = features.accuracy, features.n_test
        error = (accuracy * (1 - accuracy) / n) ** 0.5
        of_test = {"dataset": labels["dataset"], "n_images": n, "split": "test"}
        rows.append(Result(**of_test, metric="feature_accuracy", value=accuracy, standard_error=error))
    if features.reference.n is not None:
        of = {"dataset": labels["dataset"], "n_images": features.reference.n, "split": features.split}
        rows.append(Result(**of, metric="reference_images", value=features.reference.n))
    return rows
