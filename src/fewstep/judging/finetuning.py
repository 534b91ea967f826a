"""What fine-tuning did to the denoising error at the chosen timesteps and off them; whether it over-fitted."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fewstep.calls import AT_MOST, Calls
from fewstep.data.base import Dataset, checked_images, checked_labels, part_of
from fewstep.denoiser import Denoiser
from fewstep.losses.base import Loss
from fewstep.modules.training import BATCH, ValidationError
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule

SPLITS = {"validation": "validation", "training": "train"}  # a metric's word for a split
Series = Mapping[tuple[str, str], ValidationError]  # ("validation" or "training", "on" or "off" the schedule)
Errors = dict[tuple[str, str], Tensor]  # by the same keys, float64 [N], one error per image


def times_between(schedule: Schedule) -> Tensor:
    """The grid times midway between neighbouring nodes of a schedule, float64; none where neighbours touch."""
    indices = schedule.indices
    between = [(i + j) // 2 for i, j in pairwise(indices) if j - i > 1]
    return schedule.process.grid[torch.tensor([i for i in between if i > 0], dtype=torch.int64)]


def series_of(
    schedule: Schedule,
    drawn: OnSchedule,
    loss: Loss,
    dataset: Dataset,
    seed: int,
    num_classes: int | None = None,
) -> Series:
    """What measures the errors on images of both splits, at the chosen timesteps and, if there are any, off them.

    Args:
        schedule: the chosen timesteps.
        drawn: how often training draws each of them; so much each error counts, as a mean of what is trained.
        loss: what an error is.
        dataset: validation images, and as many training images.
        seed: of the noise.
        num_classes: of a class-conditional model, which is told the images' labels.
    """
    n = len(checked_images(dataset, "validation"))
    images = {word: part_of(checked_images(dataset, split), 0, n) for word, split in SPLITS.items()}
    labels = {word: checked_labels(dataset, split, num_classes) for word, split in SPLITS.items()}
    labels = {word: None if of_split is None else of_split[:n] for word, of_split in labels.items()}
    places: dict[str, tuple[Tensor, Tensor | None, Tensor | None]] = {
        "on": (schedule.times[1:], schedule.times, drawn.probabilities),
        "off": (times_between(schedule), None, None),
    }
    return {
        (word, where): ValidationError(images[word], times, seed, loss, path, probabilities, labels[word])
        for word in SPLITS
        for where, (times, path, probabilities) in places.items()
        if len(times)
    }


def validation_calls(steps: int, validations: int, validation: int, training: int) -> Calls:
    """The network calls of measuring errors at a schedule of so many steps, and at as many times off it at most.

    Args:
        steps: K.
        validations: of training; the models before it, of its best validation and after it are measured too.
        validation: how many validation images there are.
        training: and how many for training, of which no more are measured.
    """
    per_model = validation + min(validation, training)
    images = validations * validation + 3 * per_model
    return Calls(images * 2 * steps, batch=min(BATCH, validation), mark=AT_MOST)


def denoising_errors(series: Series, denoiser: Denoiser, device: torch.device) -> Errors:
    """The errors of a denoiser, image by image, in float32; their noise is the same at every call."""
    denoiser = denoiser.to(device).eval()
    with torch.inference_mode():
        return {key: errors.per_image(denoiser, device) for key, errors in series.items()}


def error_rows(labels: Mapping[str, Any], before: Errors, best: Errors, last: Errors) -> list[Result]:
    """The errors of the model before tuning, of the one that is kept, and of the last iteration.

    Besides the means: the kept model's change from before (`…_change_…`), and the last iteration's change from the
    kept model (`…_change_after_best_…`), each with the standard error of a difference paired over images. A
    training error that falls after the best validation while the validation error rises is over-fitting.
    """
    rows = []
    for (word, where), errors in before.items():
        of = dict(labels) | {"n_images": len(errors), "split": SPLITS[word]}
        kept, end = best[word, where], last[word, where]
        for metric, tuned, values in (
            (f"{word}_error_{where}_schedule", False, errors),
            (f"{word}_error_{where}_schedule", True, kept),
            (f"last_{word}_error_{where}_schedule", True, end),
            (f"{word}_change_{where}_schedule", True, kept - errors),
            (f"{word}_change_after_best_{where}_schedule", True, end - kept),
        ):
            value, standard_error = _mean(values)
            row = Result(**of, metric=metric, value=value, standard_error=standard_error, finetuned=tuned)
            rows.append(row)
    return rows


def _mean(values: Tensor) -> tuple[float, float | None]:
    """Mean and, of several values, its standard error."""
    error = (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
    return values.mean().item(), error


def count_rows(labels: Mapping[str, Any], counts: Mapping[str, int]) -> list[Result]:
    """Numbers that tell how a model was tuned, such as its best iteration."""
    return [Result(**labels, metric=name, value=count, finetuned=True) for name, count in counts.items()]
