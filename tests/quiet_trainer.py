"""A trainer on one CPU core that logs, keeps and shows nothing."""

from functools import partial

import pytorch_lightning as pl

quiet_trainer = partial(
    pl.Trainer,
    accelerator="cpu",
    devices=1,
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    enable_progress_bar=False,
)
