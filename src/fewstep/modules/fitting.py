"""Fitting that can be cut short: checkpoints, resumption, early stop on validation."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from fewstep.calls import AT_MOST, EXACTLY, Calls
from fewstep.errors import UserError
from fewstep.modules.checkpoints import AtomicCheckpoints
from fewstep.modules.fsdp import WholeAverage, with_sharded_networks
from fewstep.modules.loggers import Logging
from fewstep.modules.progress import Progress
from fewstep.modules.training import TrainingModule
from fewstep.ranks import of_first, require_at_least_one_each

CHECKPOINTS = "checkpoints"  # inside a run's folder; not one of its outputs


class FittingSettings(Protocol):
    """What every fit is told."""

    @property
    def iterations(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def validate_every(self) -> int: ...


def check_fitting(settings: FittingSettings, section: str, fewest_iterations: int = 1) -> None:
    """Raise a UserError unless the settings of a section of the configuration can be fitted with."""
    for name, least in (("iterations", fewest_iterations), ("batch_size", 1), ("validate_every", 1)):
        if getattr(settings, name) < least:
            raise UserError(f"{section}.{name} is {getattr(settings, name)}, but must be at least {least}.")
    if settings.warmup < 0:
        raise UserError(f"{section}.warmup is {settings.warmup}, but must be at least 0.")
    if not 0 < settings.learning_rate < math.inf:
        raise UserError(f"{section}.learning_rate is {settings.learning_rate}, but must be positive and finite.")
    if not 0 <= settings.ema_decay < 1:
        raise UserError(f"{section}.ema_decay is {settings.ema_decay}, but must lie in [0, 1).")


def fitting_calls(settings: FittingSettings, patience: int | None) -> Calls:
    """The images that training takes; at most, where patience may end it."""
    stops = patience is not None and validations(settings) > patience
    images = settings.iterations * settings.batch_size
    return Calls(0, images, settings.batch_size, AT_MOST if stops else EXACTLY)


def validations(settings: FittingSettings) -> int:
    """How often a training that goes on to its end is validated."""
    return settings.iterations // max(1, min(settings.validate_every, settings.iterations))


class Stopping(EarlyStopping):
    """Early stopping that a resumed run remembers: one that had stopped does not train on."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again where the checkpoint was written after the stop."""
        if self.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True


def fit(
    module: TrainingModule,
    trainer: Callable[..., pl.Trainer],
    folder: Path,
    *,
    iterations: int,
    validate_every: int,
    patience: int | None,
    logging: Logging,
) -> tuple[Path | None, pl.Trainer]:
    """Train up to `iterations`, from the last checkpoint in `folder` if there is one.

    Args:
        module: what is trained.
        trainer: makes the trainer.
        folder: the run's folder.
        iterations: at most.
        validate_every: iterations between validations; a checkpoint is written at each.
        patience: validations without improvement after which training stops; None to go on to the end.
        logging: where curves go.

    Returns:
        The checkpoint of the best validation (None where `patience` is), and the trainer.
    """
    require_at_least_one_each(module.batches.batch_size, "batch_size")
    average = WholeAverage(module)
    callbacks: list[Callback] = [Progress(folder.parent.name), average]
    best = None
    if patience is not None:
        best = ModelCheckpoint(
            folder / CHECKPOINTS, filename="best", monitor="validation/on", enable_version_counter=False
        )
        callbacks += [best, Stopping("validation/on", patience=patience)]
    # Saved last of all after a validation, so that it holds what the validation changed: best score and patience.
    callbacks.append(
        ModelCheckpoint(
            folder / CHECKPOINTS, filename="last", save_on_train_epoch_end=False, enable_version_counter=False
        )
    )
    made = with_sharded_networks(trainer, module)(
        default_root_dir=folder,
        logger=logging.start(folder, folder.parent.name),
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        max_steps=iterations,
        max_epochs=-1,
        val_check_interval=min(validate_every, iterations),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=min(20, iterations),
    )
    resume = folder / CHECKPOINTS / "last.ckpt"
    # The checkpoint is this program's own, and holds a callback's state besides tensors.
    try:
        made.fit(module, ckpt_path=resume if of_first(resume.exists) else None, weights_only=False)
    finally:
        logging.finish()
    average.restore()
    return (Path(best.best_model_path) if best is not None and best.best_model_path else None), made
