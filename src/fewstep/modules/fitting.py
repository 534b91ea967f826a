"""Fitting that can be cut short: checkpoints, resumption, early stop on validation."""

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from fewstep.modules.loggers import Logging
from fewstep.modules.progress import Progress
from fewstep.modules.training import TrainingModule

CHECKPOINTS = "checkpoints"  # inside a run's folder; not one of its outputs


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
    last = ModelCheckpoint(
        folder / CHECKPOINTS, filename="last", every_n_train_steps=validate_every, enable_version_counter=False
    )
    callbacks: list[Callback] = [Progress(folder.parent.name), last]
    best = None
    if patience is not None:
        best = ModelCheckpoint(
            folder / CHECKPOINTS, filename="best", monitor="validation/on", enable_version_counter=False
        )
        callbacks += [best, EarlyStopping("validation/on", patience=patience)]
    made = trainer(
        default_root_dir=folder,
        logger=logging.start(folder, folder.parent.name),
        callbacks=callbacks,
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
        made.fit(module, ckpt_path=resume if resume.exists() else None, weights_only=False)
    finally:
        logging.finish()
    return (Path(best.best_model_path) if best is not None and best.best_model_path else None), made
