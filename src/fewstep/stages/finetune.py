"""Stage finetune: timestep-restricted fine-tuning, pretraining's loop on a schedule's times alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.data.base import Dataset, checked_images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.modules.fitting import check_fitting, fit
from fewstep.modules.loggers import Logging
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.objectives.base import Objective, Statistics
from fewstep.results import Result, write_results
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule
from fewstep.weights import MODEL, WEIGHTS, load_model, read_model, save_model

TIMES = ("objective", "uniform")


@dataclass(frozen=True)
class Finetuning:
    """How a model is tuned to one schedule.

    Attributes:
        schedule_optimizer: whose schedule; None for the last one of the run's list.
        steps: K of that schedule.
        times: how often each chosen timestep is drawn: with the `objective`'s weights, or `uniform`.
        iterations: at most.
        batch_size: images per iteration, over all devices together.
        learning_rate: Adam's peak.
        warmup: iterations over which it rises.
        ema_decay: of the averaged weights.
        validate_every: iterations between validations.
        patience: validations without improvement after which it stops.
    """

    schedule_optimizer: str | None = None
    steps: int = 8
    times: str = "objective"
    iterations: int = 1000
    batch_size: int = 128
    learning_rate: float = 3e-4
    warmup: int = 50
    ema_decay: float = 0.995
    validate_every: int = 100
    patience: int = 3

    def __post_init__(self) -> None:
        if self.times not in TIMES:
            raise UserError(f"finetune.times is {self.times!r}; allowed are {', '.join(TIMES)}.")
        check_fitting(self, "finetune")
        if min(self.steps, self.patience) < 1:
            raise UserError("finetune.steps and finetune.patience must each be at least 1.")


def times_between(schedule: Schedule) -> Tensor:
    """The grid times midway between neighbouring nodes of a schedule, float64; none where neighbours touch."""
    indices = schedule.indices
    between = [(i + j) // 2 for i, j in pairwise(indices) if j - i > 1]
    return schedule.process.grid[torch.tensor([i for i in between if i > 0], dtype=torch.int64)]


def finetune(
    folder: Path,
    config: Mapping[str, Any],
    settings: Finetuning,
    schedule_path: Path,
    objective: Objective | None,
    statistics: Callable[[], Statistics],
    weights: Path,
    dataset: Dataset,
    trainer: Callable[..., pl.Trainer],
    logging: Logging,
    seed: int,
    labels: Mapping[str, Any],
) -> None:
    """Tune, keep the weights of the best validation, and write them with the validation errors around it.

    Args:
        folder: the run's folder; receives a model and a `results.csv`.
        config: what decides its numbers.
        settings: how.
        schedule_path: the schedule file.
        objective: whose weights `times=objective` takes; None for a fixed rule, where times are uniform.
        statistics: reads what the objective needs, when it is needed.
        weights: the folder of the model that is tuned.
        dataset: the data.
        trainer: makes the trainer.
        logging: where curves go.
        seed: of batches, times and noise.
        labels: what the rows of results are of.
    """
    inputs = {"weights": weights / WEIGHTS, "model": weights / MODEL, "schedule": schedule_path}
    with Run(folder, config, inputs) as run:
        if run.complete:
            return
        pl.seed_everything(seed, verbose=False)
        denoiser, schedule = load_model(weights), Schedule.load(schedule_path)
        schedule.require_process(denoiser.process)
        times = _times(settings, schedule, objective, statistics, denoiser)
        validation = checked_images(dataset, "validation")
        off_times = times_between(schedule)
        module = TrainingModule(
            denoiser.train(),
            TrainingBatches(checked_images(dataset, "train"), times, settings.batch_size, seed),
            ValidationError(validation, schedule.times[1:], seed),
            ValidationError(validation, off_times, seed) if len(off_times) else None,
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            iterations=settings.iterations,
            ema_decay=settings.ema_decay,
        )
        before = _validation_errors(module, load_model(weights))
        best, made = fit(
            module,
            trainer,
            folder,
            iterations=settings.iterations,
            validate_every=settings.validate_every,
            patience=settings.patience,
            logging=logging,
        )
        iterations = made.global_step
        tuned = _best_weights(module, best, before, load_model(weights))
        after = _validation_errors(module, tuned)
        model = read_model(weights)
        save_model(folder, tuned, tuple(model["shape"]), model["levels"])
        write_results(folder / "results.csv", _rows(labels, len(validation), before, after))
        run.finish(
            network_calls=iterations * settings.batch_size,
            device=str(made.strategy.root_device),
            seed=seed,
            facts={"iterations": iterations, "improved": after["on"][0] < before["on"][0]},
        )


Errors = dict[str, tuple[float, float]]  # "on", "off" → mean and standard error


def _times(
    settings: Finetuning,
    schedule: Schedule,
    objective: Objective | None,
    statistics: Callable[[], Statistics],
    denoiser: Denoiser,
) -> OnSchedule:
    if settings.times == "uniform" or objective is None:
        return OnSchedule.uniform(schedule)
    return OnSchedule.of_objective(schedule, objective.time_weights(statistics(), schedule), denoiser)


def _validation_errors(module: TrainingModule, denoiser: Denoiser) -> Errors:
    """Mean and standard error over validation images, at the chosen timesteps and off them."""
    errors: Errors = {}
    for name, validation in (("on", module.on), ("off", module.off)):
        if validation is not None:
            with torch.inference_mode():
                per_image = validation.per_image(denoiser.eval(), torch.device("cpu"))
            errors[name] = per_image.mean().item(), (per_image.std() / len(per_image) ** 0.5).item()
    return errors


def _best_weights(module: TrainingModule, best: Path | None, before: Errors, untuned: Denoiser) -> Denoiser:
    """The averaged weights of the best validation, or the untuned ones where no validation was better."""
    if best is None:
        return untuned
    state = torch.load(best, map_location="cpu", weights_only=False)["state_dict"]
    prefix = "averaged.module."
    untouched = {name: tensor.clone() for name, tensor in untuned.state_dict().items()}
    untuned.load_state_dict(
        {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    )
    if _validation_errors(module, untuned)["on"][0] >= before["on"][0]:
        untuned.load_state_dict(untouched)
    return untuned


def _rows(labels: Mapping[str, Any], n_images: int, before: Errors, after: Errors) -> list[Result]:
    return [
        Result(
            **labels,
            metric=f"validation_error_{name}_schedule",
            value=value,
            standard_error=standard_error,
            finetuned=finetuned,
            n_images=n_images,
            split="validation",
        )
        for finetuned, errors in ((False, before), (True, after))
        for name, (value, standard_error) in errors.items()
    ]
