"""Stage finetune: timestep-restricted fine-tuning, pretraining's loop on a schedule's times alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fewstep.data.base import Dataset, checked_images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.finetuning import Errors, Series, count_rows, denoising_errors, error_rows
from fewstep.losses.base import Loss
from fewstep.losses.simple import SimpleLoss
from fewstep.modules.fitting import check_fitting, fit
from fewstep.modules.loggers import Logging
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.objectives.base import Objective, Statistics
from fewstep.results import write_results
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule
from fewstep.trainable.all import AllWeights
from fewstep.trainable.base import Trainable, merge, trained_parameters
from fewstep.weights import MODEL, WEIGHTS, load_model, read_model, save_model

TIMES = ("objective", "uniform")
WHICH = ("schedule_optimizer", "steps")  # the settings that say which models are tuned, not how


@dataclass(frozen=True)
class Finetuning:
    """How a model is tuned, to each of some schedules by itself.

    Attributes:
        schedule_optimizer: whose schedules, one name or several; None for the last one of the run's list.
        steps: K of those schedules, one or several.
        trainable: which weights are trained.
        loss: what is lowered; the one that the model was trained with.
        times: how often each chosen timestep is drawn: with the `objective`'s weights, or `uniform`.
        iterations: at most.
        batch_size: images per iteration, over all devices together.
        learning_rate: Adam's peak.
        warmup: iterations over which it rises.
        ema_decay: of the averaged weights.
        validate_every: iterations between validations.
        patience: validations without improvement after which it stops.
    """

    schedule_optimizer: str | Sequence[str] | None = None
    steps: int | Sequence[int] = 8
    trainable: Trainable = field(default_factory=AllWeights)
    loss: Loss = field(default_factory=SimpleLoss)
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
        if self.patience < 1:
            raise UserError(f"finetune.patience is {self.patience}, but must be at least 1.")
        for name, given in (("steps", self.all_steps), ("schedule_optimizer", self.schedule_optimizers)):
            if len(set(given)) < len(given):
                raise UserError(f"finetune.{name} is {list(given)}; each may be given once.")
        if min(self.all_steps, default=0) < 1:
            raise UserError(f"finetune.steps is {self.steps}; allowed are one or several numbers of at least 1.")

    @property
    def all_steps(self) -> tuple[int, ...]:
        """Every K that is tuned for."""
        return (self.steps,) if isinstance(self.steps, int) else tuple(self.steps)

    @property
    def schedule_optimizers(self) -> tuple[str, ...]:
        """Every schedule optimizer named; none where the run's last one is meant."""
        names = self.schedule_optimizer
        return (names,) if isinstance(names, str) else tuple(names or ())


class Tuned(NamedTuple):
    """A model tuned to one schedule: whose, of how many steps, the model's folder, the schedule's file."""

    schedule_optimizer: str
    steps: int
    weights: Path
    schedule: Path


def network_of(denoiser: Denoiser) -> nn.Module:
    """The network of a denoiser that came from a file, whose weights can be trained."""
    assert isinstance(denoiser.backbone, nn.Module)
    return denoiser.backbone


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
    """Tune, keep the weights of the best validation, and write them with the denoising errors around it.

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
        train, validation = checked_images(dataset, "train"), checked_images(dataset, "validation")
        series = _series(schedule, settings.loss, validation, train[: len(validation)], seed)
        n_parameters = sum(weight.numel() for weight in denoiser.parameters())
        settings.trainable.prepare(network_of(denoiser))
        module = TrainingModule(
            denoiser.train(),
            TrainingBatches(train, times, settings.batch_size, seed),
            series["validation", "on"],
            series.get(("validation", "off")),
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            iterations=settings.iterations,
            ema_decay=settings.ema_decay,
            loss=settings.loss,
        )
        best, made = fit(
            module,
            trainer,
            folder,
            iterations=settings.iterations,
            validate_every=settings.validate_every,
            patience=settings.patience,
            logging=logging,
        )
        device = made.strategy.root_device
        before = denoising_errors(series, load_model(weights), device)
        last = denoising_errors(series, module.averaged_denoiser, device)
        tuned, best_iteration = _of_checkpoint(best, settings.trainable, weights)
        after = denoising_errors(series, tuned, device)
        improved = bool(_selected(after) < _selected(before))
        if not improved:
            tuned, best_iteration, after = load_model(weights), 0, before
        model = read_model(weights)
        save_model(folder, tuned, tuple(model["shape"]), model["levels"])
        counts = {
            "parameters": n_parameters,
            "trained_parameters": trained_parameters(module.denoiser),
            "best_iteration": best_iteration,
            "last_iteration": made.global_step,
        }
        rows = [*error_rows(labels, before, after, last), *count_rows(labels, counts)]
        write_results(folder / "results.csv", rows)
        run.finish(
            network_calls=made.global_step * settings.batch_size,
            device=str(device),
            seed=seed,
            facts={"iterations": made.global_step, "improved": improved},
        )


def _times(
    settings: Finetuning,
    schedule: Schedule,
    objective: Objective | None,
    statistics: Callable[[], Statistics],
    denoiser: Denoiser,
) -> OnSchedule:
    if settings.times == "uniform" or objective is None or settings.loss.weighs_steps:
        return OnSchedule.uniform(schedule)  # a loss that weighs the steps itself is their sum when drawn evenly
    time_weights = objective.time_weights(statistics(), schedule)
    return (
        OnSchedule.uniform(schedule)
        if time_weights is None
        else OnSchedule.of_objective(schedule, time_weights, denoiser)
    )


def _series(schedule: Schedule, loss: Loss, validation: Tensor, training: Tensor, seed: int) -> Series:
    """On images of both splits, the errors at the chosen timesteps and, where there are others, off them."""
    places = {"on": (schedule.times[1:], schedule.times), "off": (times_between(schedule), None)}
    return {
        (word, where): ValidationError(images, times, seed, loss, path)
        for word, images in (("validation", validation), ("training", training))
        for where, (times, path) in places.items()
        if len(times)
    }


def _of_checkpoint(best: Path | None, trainable: Trainable, weights: Path) -> tuple[Denoiser, int]:
    """The averaged weights of a checkpoint as an ordinary model, and its iteration; the untuned ones of none."""
    denoiser = load_model(weights)
    if best is None:
        return denoiser, 0
    trainable.prepare(network_of(denoiser))
    checkpoint = torch.load(best, map_location="cpu", weights_only=False)
    prefix = "averaged.module."
    state = checkpoint["state_dict"]
    denoiser.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    merge(network_of(denoiser))
    return denoiser, checkpoint["global_step"]


def _selected(errors: Errors) -> Tensor:
    """What the best weights are chosen by: the mean validation error at the chosen timesteps."""
    return errors["validation", "on"].mean()
