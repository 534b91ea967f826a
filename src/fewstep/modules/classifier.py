"""Training of the classifier whose features judge samples."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fewstep.backbones.classifier import Classifier
from fewstep.data.base import Images, blocks

Batch = tuple[Tensor, Tensor]


class LabelledImages(Dataset[Batch]):
    """Batches of images with their labels, each read at once.

    Args:
        images: [N, C, H, W].
        labels: int64 [N].
    """

    def __init__(self, images: Images, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Batch:
        """A batch, which torch's loader asks for in one piece where it can."""
        chosen = torch.tensor(rows)
        return self.images[chosen], self.labels[chosen]


class ClassifierModule(pl.LightningModule):
    """Cross-entropy with AdamW on images that are shifted by up to one pixel.

    Args:
        classifier: trained in place.
        images: [N, C, H, W] of the training split.
        labels: int64 [N].
        learning_rate: the peak of a one-cycle schedule.
        batch_size: images per iteration.
        seed: of the order.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        labels: Tensor,
        *,
        learning_rate: float,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.data = LabelledImages(images, labels)
        self.learning_rate, self.batch_size, self.seed = learning_rate, batch_size, seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches."""
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.data, self.batch_size, shuffle=True, drop_last=True, generator=order, collate_fn=_as_it_is
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        images, labels = batch
        rows, columns = torch.randint(-1, 2, (2,)).tolist()
        loss = functional.cross_entropy(self.classifier(torch.roll(images, (rows, columns), (2, 3))), labels)
        self.log("classifier/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        """AdamW, one cycle."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=1e-2)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=total)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _as_it_is(batch: Any) -> Any:
    """A batch that is one already."""
    return batch


@torch.inference_mode()
def accuracy(classifier: Classifier, images: Images, labels: Tensor) -> float:
    """The share of images whose largest logit is their label's."""
    classifier.eval()
    guesses = torch.cat([classifier(images[rows]).argmax(1) for rows in blocks(images)])
    return (guesses == labels).double().mean().item()
