"""Stage pretrain: train a denoiser on all timesteps of its process, or take one that the user brings as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from fewstep.calls import Calls
from fewstep.data.base import Dataset, checked_images, checked_labels
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.losses.base import Loss
from fewstep.losses.simple import SimpleLoss
from fewstep.modules.fitting import check_fitting, fit, fitting_calls, validations
from fewstep.modules.loggers import Logging
from fewstep.modules.training import BATCH, TrainingBatches, TrainingModule, ValidationError
from fewstep.provenance import NO_INPUTS
from fewstep.run import Run
from fewstep.solvers.base import device_of
from fewstep.weights import save_model

VALIDATION_TIMES = 32


@dataclass(frozen=True)
class Pretraining:
    """How a denoiser is trained.

    Attributes:
        iterations: batches in all; 0 for a model whose weights come from a file, which are then kept as they are.
        batch_size: images per iteration, over all devices together.
        learning_rate: Adam's, after `warmup` iterations; it falls to zero over the last half.
        warmup: iterations over which it rises.
        ema_decay: of the averaged weights, which are the ones that are kept.
        validate_every: iterations between validations and checkpoints.
        loss: what is lowered, and with it the distribution of times.
    """

    iterations: int = 3000
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 100
    ema_decay: float = 0.999
    validate_every: int = 250
    loss: Loss = field(default_factory=SimpleLoss)

    def __post_init__(self) -> None:
        check_fitting(self, "pretrain", fewest_iterations=0)

    @property
    def calls(self) -> Calls:
        """The network calls of training, all of which is run."""
        return fitting_calls(self, patience=None)

    def validation_calls(self, T: int, images: int) -> Calls:
        """The network calls of validating on so many images, on a grid of T, on the way and at the end."""
        if self.iterations == 0:
            return Calls()
        return Calls((validations(self) + 1) * images * min(VALIDATION_TIMES, T), batch=min(BATCH, images))


def validation_times(denoiser: Denoiser, n: int = VALIDATION_TIMES) -> torch.Tensor:
    """Up to `n` times of the grid, evenly spread from t_1 to t_T, float64."""
    T = denoiser.process.T
    return denoiser.process.grid[torch.linspace(1, T, min(n, T)).round().long()]


def checkpoint_files(model: Mapping[str, Any]) -> dict[str, Path]:
    """The files that a model's first weights come from, by their names among a run's inputs.

    They are the file that its section's `path` names, or those in the folder that it names; none without a `path`,
    nor where it is a name on a hub.
    """
    if not comes_with_weights(model) or model.get("hub"):
        return {}
    path = Path(str(model["path"])).expanduser()
    inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    return {f"checkpoint/{file.relative_to(path).as_posix()}": file for file in inside} or {"checkpoint": path}


def comes_with_weights(model: Mapping[str, Any]) -> bool:
    """Whether somebody else trained the model that a section describes: it says where its weights are."""
    return model.get("path") is not None


def require_weights(settings: Pretraining, model: Mapping[str, Any]) -> None:
    """Raise a UserError where nothing is trained, and no file holds what was."""
    if settings.iterations == 0 and not comes_with_weights(model):
        raise UserError(
            "pretrain.iterations is 0, but this model's weights do not come from a file; set it to at least 1, or "
            "take a model with a path."
        )


def pretrain(
    folder: Path,
    config: Mapping[str, Any],
    make_denoiser: Callable[[], Denoiser],
    dataset: Dataset,
    settings: Pretraining,
    trainer: Callable[..., pl.Trainer],
    logging: Logging,
    seed: int,
    checkpoint: Mapping[str, Path] = NO_INPUTS,
) -> None:
    """Train and write `weights.safetensors` and `model.yaml` into `folder`.

    `checkpoint` are the files that the denoiser's first weights come from, by their names among the run's inputs.
    Without any iterations those weights are written as they are.
    """
    with Run(folder, config, checkpoint) as run:
        if run.complete:
            return
        pl.seed_everything(seed, verbose=False)
        denoiser = make_denoiser()
        if settings.iterations == 0:
            save_model(folder, denoiser, dataset.shape, dataset.levels)
            run.finish(network_calls=0, device="cpu", seed=seed)
            return
        denoiser.train()  # a model from a file comes without its dropout
        process, loss = denoiser.process, settings.loss
        times = loss.time_distribution(process)
        train, held_out = (
            checked_labels(dataset, split, denoiser.num_classes) for split in ("train", "validation")
        )
        batches = TrainingBatches(checked_images(dataset, "train"), times, settings.batch_size, seed, train)
        validation = ValidationError(
            checked_images(dataset, "validation"),
            validation_times(denoiser),
            seed,
            loss,
            process.grid,
            labels=held_out,
        )
        module = TrainingModule(
            denoiser,
            batches,
            validation,
            None,
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            iterations=settings.iterations,
            ema_decay=settings.ema_decay,
            loss=loss,
        )
        _, made = fit(
            module,
            trainer,
            folder,
            iterations=settings.iterations,
            validate_every=settings.validate_every,
            patience=None,
            logging=logging,
        )
        trained = module.averaged_denoiser.eval()
        with torch.inference_mode():
            validation_error = validation.mean(trained, device_of(trained), made.global_step)
        save_model(folder, trained, dataset.shape, dataset.levels)
        run.finish(
            network_calls=settings.iterations * settings.batch_size,
            device=str(made.strategy.root_device),
            seed=seed,
            facts={"validation_error": validation_error},
        )
