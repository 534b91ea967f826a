"""Training of the classifier whose features judge samples."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fewstep.backbones.classifier import Classifier

Batch = tuple[Tensor, Tensor]


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
        images: Tensor,
        labels: Tensor,
        *,
        learning_rate: float,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.data = TensorDataset(images, labels)
        self.learning_rate, self.batch_size, self.seed = learning_rate, batch_size, seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Shuffled batches."""
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.data, self.batch_size, shuffle=True, drop_last=True, generator=order)

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


@torch.inference_mode()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images whose largest logit is their label's."""
    classifier.eval()
    return (classifier(images).argmax(1) == labels).double().mean().item()
