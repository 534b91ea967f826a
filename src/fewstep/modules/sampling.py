"""Sampling and its judgement on the trainer's devices: blocks of indices are shared out."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.metrics.frechet import FrechetDistance
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver


class SamplingModule(pl.LightningModule):
    """Samples blocks of indices and adds their features to a Fréchet distance, through `trainer.test`.

    Args:
        denoiser: the model.
        solver: the solver, fitted where it needs to be.
        schedule: the schedule.
        extractor: has `features(images) -> [B, d]`.
        distance: the metric.
        n_images: how many samples.
        batch_size: indices per row of work, rounded up to whole blocks of ROWS; no number depends on it.
        seed: of the noise.
        shape: (C, H, W).
        levels: grey levels that samples are rounded to before they are judged.

    Attributes:
        nfe: network calls per image, counted.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        solver: Solver,
        schedule: Schedule,
        extractor: nn.Module,
        distance: FrechetDistance,
        *,
        n_images: int,
        batch_size: int,
        seed: int,
        shape: tuple[int, int, int],
        levels: int,
    ) -> None:
        super().__init__()
        self.denoiser, self.extractor, self.distance = denoiser, extractor, distance
        self.solver, self.schedule = solver, schedule
        self.n_images, self.batch_size, self.seed, self.shape, self.levels = (
            n_images,
            batch_size,
            seed,
            shape,
            levels,
        )

    @property
    def blocks(self) -> int:
        """The number of rows of work."""
        return -(-self.n_images // self._indices_per_row)

    @property
    def _indices_per_row(self) -> int:
        return -(-self.batch_size // ROWS) * ROWS

    def test_step(self, row: int, batch_idx: int = 0) -> None:
        """Sample the row's indices and judge them, block by block: no sum depends on the size of a row."""
        begin = int(row) * self._indices_per_row
        end = min(begin + self._indices_per_row, self.n_images)
        for first in range(begin, end, ROWS):
            indices = range(first, min(first + ROWS, end))
            before = self.denoiser.calls
            images = sample(self.denoiser, self.solver, self.schedule, indices, self.seed, self.shape)
            self.nfe = self.denoiser.calls - before
            self.distance.update(self._features(images), torch.tensor(indices, device=self.device))

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.extractor.features(to_grey_levels(images, self.levels).to(self.device))  # type: ignore[operator]
        return features
