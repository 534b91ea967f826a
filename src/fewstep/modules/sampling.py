"""Sampling and its judgement on the trainer's devices: blocks of indices are shared out."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from fewstep.denoiser import Denoiser
from fewstep.metrics.fine_step_distance import FineStepDistance
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver


class SamplingModule(pl.LightningModule):
    """Samples blocks of indices and adds their features to metrics, through `trainer.test`.

    Where there are outputs of many steps from the same noise, the first samples are compared with them too, as the
    solver returns them: rounding to grey levels would hide small distances.

    Args:
        denoiser: the model.
        solver: the solver, fitted where it needs to be.
        schedule: the schedule.
        extractor: has `features(images) -> [B, d]`.
        metrics: each has `update(features, indices)`.
        n_images: how many samples.
        batch_size: indices per row of work, rounded up to whole blocks of ROWS; no number depends on it.
        seed: of the noise.
        shape: (C, H, W).
        levels: grey levels that samples are rounded to before they are judged.
        fine_images: [n, C, H, W], what many steps make of the first n ≤ n_images noises; None for no comparison.

    Attributes:
        nfe: network calls per image, counted; by rank 0, which always has a row.
        compared: the distances to `fine_images`; None without them.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        solver: Solver,
        schedule: Schedule,
        extractor: nn.Module,
        metrics: Sequence[Metric],
        *,
        n_images: int,
        batch_size: int,
        seed: int,
        shape: tuple[int, int, int],
        levels: int,
        fine_images: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.fine_images = fine_images
        self.compared = None if fine_images is None else FineStepDistance(len(fine_images))
        self.denoiser, self.extractor = denoiser, extractor
        self.nfe = 0
        self.metrics: Sequence[Metric] = nn.ModuleList(metrics)  # type: ignore[assignment]
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
            features = self._features(to_grey_levels(images, self.levels))
            for metric in self.metrics:
                metric.update(features, torch.tensor(indices, device=self.device))
            self._compare(images, indices)

    def _compare(self, images: Tensor, indices: range) -> None:
        if self.compared is None or self.fine_images is None:
            return
        known = indices[: max(0, len(self.fine_images) - indices.start)]
        if known:
            mine, fine = images[: len(known)], self.fine_images[known.start : known.stop]
            of_known = torch.tensor(known, device=self.device)
            self.compared.update(mine, self._features(mine), fine, self._features(fine), of_known)

    def _features(self, images: Tensor) -> Tensor:
        # The judge is the same whatever precision the network runs in.
        with torch.autocast(self.device.type, enabled=False):
            features: Tensor = self.extractor.features(images.to(self.device))  # type: ignore[operator]
        return features


class SampledBlocks(pl.LightningModule):
    """Samples blocks of ROWS indices through `trainer.predict`, a row of work each.

    Args:
        denoiser: the model.
        solver: the solver, fitted where it needs to be.
        schedule: the schedule.
        n_images: how many samples, from index 0.
        seed: of the noise.
        shape: (C, H, W).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        solver: Solver,
        schedule: Schedule,
        n_images: int,
        seed: int,
        shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.denoiser, self.solver, self.schedule = denoiser, solver, schedule
        self.n_images, self.seed, self.shape = n_images, seed, shape

    @property
    def blocks(self) -> int:
        """The number of rows of work."""
        return -(-self.n_images // ROWS)

    def predict_step(self, row: int, batch_idx: int = 0) -> Tensor:
        """The images of one block, float64 [≤ ROWS, C, H, W], on the CPU."""
        indices = range(int(row) * ROWS, min((int(row) + 1) * ROWS, self.n_images))
        return sample(self.denoiser, self.solver, self.schedule, indices, self.seed, self.shape)
