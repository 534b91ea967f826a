"""One progress bar for whatever a trainer runs, shown only when it takes longer than a moment."""

from typing import Any

import pytorch_lightning as pl
from tqdm.auto import tqdm

DELAY = 3.0  # seconds before a bar appears; what is over by then needs none


class Progress(pl.Callback):
    """A bar over training iterations, or over the rows of statistics or of samples.

    Args:
        description: what stands before the bar.
    """

    def __init__(self, description: str) -> None:
        self.description = description
        self._bar: tqdm[Any] | None = None

    def _open(self, trainer: pl.Trainer, total: float, done: int, unit: str) -> None:
        if trainer.is_global_zero:
            self._bar = tqdm(desc=self.description, total=int(total), initial=done, unit=unit, delay=DELAY)

    def _advance(self, note: str = "") -> None:
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar where training stands."""
        self._open(trainer, trainer.estimated_stepping_batches, trainer.global_step, "iteration")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance, with the validation error where there is one."""
        validation = trainer.callback_metrics.get("validation/on")
        self._advance("" if validation is None else f"validation error {float(validation):.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar over rows."""
        self._open(trainer, sum(trainer.num_predict_batches), 0, "row")

    def on_predict_batch_end(self, *_: Any) -> None:
        """Advance."""
        self._advance()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar over blocks."""
        self._open(trainer, sum(trainer.num_test_batches), 0, "block")

    def on_test_batch_end(self, *_: Any) -> None:
        """Advance."""
        self._advance()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()
