"""Features of real images on the trainer's devices: blocks of images are shared out."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from fewstep.data.base import Images
from fewstep.sampling import ROWS


class RealFeatures(pl.LightningModule):
    """Adds the features of images to metrics through `trainer.test`, or returns them through `trainer.predict`.

    Blocks are those that samples are judged in, so that no number depends on how many images there are.

    Args:
        extractor: has `features(images) -> [B, d]`.
        images: what they are of, in [-1, 1]; read block by block.
        chosen: int64 [n], which of them; None for all.
        metrics: each has `update(features, indices)`.
    """

    def __init__(
        self, extractor: nn.Module, images: Images, chosen: Tensor | None = None, metrics: Sequence[Metric] = ()
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.metrics: Sequence[Metric] = nn.ModuleList(metrics)  # type: ignore[assignment]
        self.images, self.chosen = images, chosen

    @property
    def n_images(self) -> int:
        """How many images there are."""
        return len(self.images) if self.chosen is None else len(self.chosen)

    @property
    def blocks(self) -> int:
        """The number of rows of work."""
        return -(-self.n_images // ROWS)

    def test_step(self, row: int, batch_idx: int = 0) -> None:
        """Add one block's features to every metric."""
        features = self._features(int(row))
        first = int(row) * ROWS
        indices = torch.arange(first, first + len(features), device=self.device)
        for metric in self.metrics:
            metric.update(features, indices)

    def predict_step(self, row: int, batch_idx: int = 0) -> Tensor:
        """The features of one block, float32 [≤ ROWS, d], on the CPU."""
        return self._features(int(row)).float().cpu()

    def _features(self, row: int) -> Tensor:
        block = slice(row * ROWS, min((row + 1) * ROWS, self.n_images))
        images = self.images[block if self.chosen is None else self.chosen[block]]
        features: Tensor = self.extractor.features(images.to(self.device))  # type: ignore[operator]
        return features
