"""Statistics on the trainer's devices: the timesteps are shared out, each measured on all images."""

from typing import Any, Protocol

import pytorch_lightning as pl
import torch

from fewstep.denoiser import Denoiser


class Estimator(Protocol):
    """What measures one row of a kind of statistics."""

    def __len__(self) -> int: ...
    def to(self, device: torch.device) -> None: ...
    def measure(self, denoiser: Denoiser, row: int) -> Any: ...


class StatisticsModule(pl.LightningModule):
    """Runs an estimator's rows through `trainer.predict`."""

    def __init__(self, denoiser: Denoiser, estimator: Estimator) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.estimator = estimator

    def on_predict_start(self) -> None:
        """Move the images once."""
        self.estimator.to(self.device)

    def predict_step(self, row: int, batch_idx: int = 0) -> Any:
        """What the estimator measures in one row."""
        return self.estimator.measure(self.denoiser, int(row))
