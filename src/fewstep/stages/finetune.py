"""Stage finetune: timestep-restricted fine-tuning, pretraining's loop on a schedule's times alone.

It is the second phase of Huang 2024 (arXiv 2412.10786; a reconstruction, docs/discretization.md). With several
rounds it alternates with the first, the search for a schedule: fewstep.pipeline.tuning gives the order, and
fewstep.stages.rounds the loss that both lower.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fewstep.data.base import Dataset, checked_images, checked_labels
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.finetuning import Errors, Series, count_rows, denoising_errors, error_rows, series_of
from fewstep.losses.base import Loss
from fewstep.losses.simple import SimpleLoss
from fewstep.modules.fitting import check_fitting, fit
from fewstep.modules.loggers import Logging
from fewstep.modules.training import TrainingBatches, TrainingModule
from fewstep.objectives.base import Objective, Statistics
from fewstep.results import write_results
from fewstep.run import Run
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule
from fewstep.trainable.all import AllWeights
from fewstep.trainable.base import Trainable, merge, trained_parameters
from fewstep.weights import MODEL, WEIGHTS, load_model, read_model, save_model

TIMES = ("objective", "uniform")
WHICH = ("schedule_optimizer", "steps", "rounds")  # the settings that say which models are tuned, not how


@dataclass(frozen=True)
class Finetuning:
    """How a model is tuned, to each of some schedules by itself.

    Attributes:
        schedule_optimizer: whose schedules, one name or several; None for the last one of the run's list.
        steps: K of those schedules, one or several.
        rounds: how often search and training alternate, each round on the weights of the one before: 1 tunes once.
            Several, such as [1, 3], make as many models.
        trainable: which weights are trained.
        loss: what is lowered; the one that the model was trained with.
        times: how often each chosen timestep is drawn: with the `objective`'s weights, or `uniform`.
        iterations: at most, over all rounds of a model together: each has an even share, so that models of several
            numbers of rounds differ in the alternation and not in how long they were trained.
        batch_size: images per iteration, over all devices together.
        learning_rate: Adam's peak.
        warmup: iterations over which it rises.
        ema_decay: of the averaged weights.
        validate_every: iterations between validations.
        patience: validations without improvement after which it stops.
    """

    schedule_optimizer: str | Sequence[str] | None = None
    steps: int | Sequence[int] = 8
    rounds: int | Sequence[int] = 1
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
        for name, chosen in (
            ("steps", self.all_steps),
            ("rounds", self.all_rounds),
            ("schedule_optimizer", self.schedule_optimizers),
        ):
            if len(set(chosen)) < len(chosen):
                raise UserError(f"finetune.{name} is {list(chosen)}; each may be given once.")
        for name, numbers in (("steps", self.all_steps), ("rounds", self.all_rounds)):
            if min(numbers, default=0) < 1:
                given = getattr(self, name)
                raise UserError(f"finetune.{name} is {given}; allowed are one or several numbers of at least 1.")
        if self.iterations < max(self.all_rounds):
            raise UserError(
                f"finetune.iterations is {self.iterations}, but must be at least 1 for each of the "
                f"{max(self.all_rounds)} rounds that share them."
            )
        if self.times == "uniform" and max(self.all_rounds) > 1:
            raise UserError(
                f"finetune.rounds is {self.rounds}, but with finetune.times=uniform training does not lower what "
                "the search lowers; set finetune.times=objective, or finetune.rounds=1."
            )

    def of_one_round(self, rounds: int) -> "Finetuning":
        """How each of so many rounds trains, with its share of the iterations."""
        return replace(self, iterations=self.iterations // rounds, rounds=1)

    @property
    def all_steps(self) -> tuple[int, ...]:
        """Every K that is tuned for."""
        return (self.steps,) if isinstance(self.steps, int) else tuple(self.steps)

    @property
    def all_rounds(self) -> tuple[int, ...]:
        """Every number of rounds asked for, ascending."""
        return (self.rounds,) if isinstance(self.rounds, int) else tuple(sorted(self.rounds))

    @property
    def schedule_optimizers(self) -> tuple[str, ...]:
        """Every schedule optimizer named; none where the run's last one is meant."""
        names = self.schedule_optimizer
        return (names,) if isinstance(names, str) else tuple(names or ())


def network_of(denoiser: Denoiser) -> nn.Module:
    """The network of a denoiser that came from a file, whose weights can be trained."""
    assert isinstance(denoiser.backbone, nn.Module)
    return denoiser.backbone


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
        series = series_of(schedule, times, settings.loss, dataset, seed, denoiser.num_classes)
        n_parameters = sum(weight.numel() for weight in denoiser.parameters())
        settings.trainable.prepare(network_of(denoiser))
        classes = checked_labels(dataset, "train", denoiser.num_classes)
        batches = TrainingBatches(checked_images(dataset, "train"), times, settings.batch_size, seed, classes)
        module = _module(denoiser, batches, series, settings)
        n_trained = trained_parameters(module.denoiser)
        best, made = _fit(module, settings, trainer, folder, logging)
        outcome = _outcome(module, best, series, settings.trainable, weights, made.strategy.root_device)
        _save(folder, outcome, weights)
        counts = {
            "parameters": n_parameters,
            "trained_parameters": n_trained,
            "best_iteration": outcome.iteration,
            "last_iteration": made.global_step,
        }
        rows = error_rows(labels, outcome.before, outcome.kept, outcome.last)
        write_results(folder / "results.csv", [*rows, *count_rows(labels, counts)])
        run.finish(
            network_calls=made.global_step * settings.batch_size,
            device=str(made.strategy.root_device),
            seed=seed,
            facts={"iterations": made.global_step, "improved": outcome.improved},
        )


def drawn_evenly(settings: Finetuning) -> bool:
    """Whether times are drawn alike: a loss that weighs the steps itself is their sum when they are."""
    return settings.times == "uniform" or settings.loss.weighs_steps


def _times(
    settings: Finetuning,
    schedule: Schedule,
    objective: Objective | None,
    statistics: Callable[[], Statistics],
    denoiser: Denoiser,
) -> OnSchedule:
    if objective is None or drawn_evenly(settings):
        return OnSchedule.uniform(schedule)
    time_weights = objective.time_weights(statistics(), schedule)
    return (
        OnSchedule.uniform(schedule)
        if time_weights is None
        else OnSchedule.of_objective(schedule, time_weights, denoiser)
    )


def _module(denoiser: Denoiser, batches: TrainingBatches, series: Series, settings: Finetuning) -> TrainingModule:
    return TrainingModule(
        denoiser.train(),
        batches,
        series["validation", "on"],
        series.get(("validation", "off")),
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        iterations=settings.iterations,
        ema_decay=settings.ema_decay,
        loss=settings.loss,
    )


def _fit(
    module: TrainingModule,
    settings: Finetuning,
    trainer: Callable[..., pl.Trainer],
    folder: Path,
    logging: Logging,
) -> tuple[Path | None, pl.Trainer]:
    return fit(
        module,
        trainer,
        folder,
        iterations=settings.iterations,
        validate_every=settings.validate_every,
        patience=settings.patience,
        logging=logging,
    )


class _Outcome(NamedTuple):
    """The model that is kept, its iteration, and the errors before tuning, of it, and of the last iteration."""

    model: Denoiser
    iteration: int
    improved: bool
    before: Errors
    kept: Errors
    last: Errors


def _outcome(
    module: TrainingModule,
    best: Path | None,
    series: Series,
    trainable: Trainable,
    weights: Path,
    device: torch.device,
) -> _Outcome:
    """The best validation's model where it is better than the untuned one, which is kept otherwise."""
    before = denoising_errors(series, load_model(weights), device)
    last = denoising_errors(series, module.averaged_denoiser, device)
    tuned, iteration = _of_checkpoint(best, trainable, weights)
    kept = denoising_errors(series, tuned, device)
    if _selected(kept) < _selected(before):
        return _Outcome(tuned, iteration, True, before, kept, last)
    return _Outcome(load_model(weights), 0, False, before, before, last)


def _save(folder: Path, outcome: _Outcome, weights: Path) -> None:
    """Write the kept model, for images as the model in `weights` is for."""
    model = read_model(weights)
    save_model(folder, outcome.model, tuple(model["shape"]), model["levels"])


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
    """What the best weights are chosen by: the loss that is trained, on validation images."""
    return errors["validation", "on"].mean()
