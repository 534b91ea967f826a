"""Training under FSDP: each GPU keeps a part of the weights, of their gradients, moments and averages.

What a GPU must hold whole is one network at a time, while it is called.
"""

import copy
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from fewstep.denoiser import Denoiser
from fewstep.modules.trainers import MakeTrainer, check_trainer
from fewstep.modules.training import TrainingModule


def with_sharded_networks(trainer: MakeTrainer, module: TrainingModule) -> MakeTrainer:
    """What makes the same trainers; where their strategy is FSDP, a module's networks are sharded alike.

    That is each by itself, so that every device holds the same part of the weights and of their average.
    """
    if not isinstance(check_trainer(trainer).strategy, FSDPStrategy):
        return trainer
    networks = {type(denoiser.backbone) for denoiser in (module.denoiser, module.averaged_denoiser)}
    return partial(trainer, strategy=FSDPStrategy(auto_wrap_policy=networks))  # type: ignore[arg-type]


class WholeAverage(pl.Callback):
    """Puts a module's averaged weights together, on every rank's CPU, as training ends; without FSDP they are.

    Args:
        module: before it is trained.
    """

    def __init__(self, module: TrainingModule) -> None:
        self.module = module
        self.whole: Denoiser | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remember what the whole denoiser is like."""
        if isinstance(trainer.strategy, FSDPStrategy):
            self.whole = copy.deepcopy(self.module.averaged_denoiser)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather the weights while the devices still hold them."""
        if self.whole is None:
            return
        sharded = trainer.strategy.model
        assert sharded is not None
        with torch.no_grad(), FullyShardedDataParallel.summon_full_params(sharded, writeback=False):
            average = self.module.averaged_denoiser
            for mine, theirs in (
                *zip(self.whole.parameters(), average.parameters(), strict=True),
                *zip(self.whole.buffers(), average.buffers(), strict=True),
            ):
                mine.copy_(theirs)

    def restore(self) -> None:
        """Have the module hold the whole average, once training is over."""
        if self.whole is not None:
            self.module.averaged.module = self.whole
