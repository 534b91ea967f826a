"""Statistics on the trainer's devices: the timesteps are shared out, each measured on all images.

A CPU's cores each take a timestep: a network's own work spreads over them less well than whole timesteps do.
"""

from typing import Any, Protocol

import pytorch_lightning as pl
import torch

from fewstep.cores import spread
from fewstep.denoiser import Denoiser
from fewstep.modules.sharing import predict_rows
from fewstep.process import Process

BLOCK = 8  # rows per step of the trainer, whose own work per step is some part of a small network's call


class Estimator(Protocol):
    """What measures one row of a kind of statistics."""

    def __len__(self) -> int: ...
    def to(self, device: torch.device) -> None: ...
    def prepare(self, process: Process) -> None: ...
    def measure(self, denoiser: Denoiser, row: int) -> Any: ...


def rows_at_once(device: torch.device) -> int:
    """How many rows are measured side by side, each in the memory of a row."""
    return min(BLOCK, torch.get_num_threads()) if device.type == "cpu" else 1


class StatisticsModule(pl.LightningModule):
    """Runs an estimator's rows through `trainer.predict`."""

    def __init__(self, denoiser: Denoiser, estimator: Estimator) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.estimator = estimator

    def on_predict_start(self) -> None:
        """Move the images once."""
        self.estimator.to(self.device)
        self.estimator.prepare(self.denoiser.process)

    @property
    def blocks(self) -> int:
        """The number of blocks of `BLOCK` rows."""
        return -(-len(self.estimator) // BLOCK)

    def predict_step(self, block: int, batch_idx: int = 0) -> list[Any]:
        """What the estimator measures in the rows of one block."""
        first = int(block) * BLOCK
        rows = range(first, min(first + BLOCK, len(self.estimator)))
        return spread(self._measure, rows) if self.device.type == "cpu" else [self._measure(row) for row in rows]

    def _measure(self, row: int) -> Any:
        with torch.inference_mode(), self.trainer.precision_plugin.forward_context():
            return self.estimator.measure(self.denoiser, row)


def measured_rows(trainer: pl.Trainer, module: StatisticsModule) -> list[Any]:
    """What the estimator measures in every row, in order, on every device."""
    return [row for block in predict_rows(trainer, module, module.blocks) for row in block]
