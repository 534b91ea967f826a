"""How rows of work are shared out over devices: every row exactly once, results back in order."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from torch.utils.data import DataLoader, Sampler
from torchmetrics import Metric

from fewstep.denoiser import Denoiser, counted_on_all_ranks
from fewstep.ranks import rank, world


class Shard(Sampler[int]):
    """The rows rank, rank + world, … below n, with no row repeated to even the shards out.

    Looks its rank up when it is iterated, because the trainer sets the process group up later than the loader.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def _rows(self) -> range:
        return range(rank(), self.n, world())

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())


def row_loader(n: int) -> DataLoader[int]:
    """A loader of the row numbers of this rank's shard of 0 … n − 1, one per batch."""
    return DataLoader(range(n), batch_size=None, sampler=Shard(n))  # type: ignore[arg-type]


def predict_rows(trainer: pl.Trainer, module: pl.LightningModule, n: int) -> list[Any]:
    """`module.predict_step(row)` for rows 0 … n − 1 on the trainer's devices, in order, on every rank."""
    module.allow_zero_length_dataloader_with_multiple_devices = True  # of fewer rows than devices
    with _counted(module):
        mine = trainer.predict(module, row_loader(n), return_predictions=True) or []
    if world() == 1:
        return list(mine)
    shards: list[list[Any]] = [[] for _ in range(world())]
    torch.distributed.all_gather_object(shards, mine)
    return [shards[row % world()][row // world()] for row in range(n)]


def update_metrics(trainer: pl.Trainer, module: pl.LightningModule, n: int) -> None:
    """`module.test_step(row)` for rows 0 … n − 1 on the trainer's devices; its metrics stay there, to be computed.

    Lightning takes a module back to the CPU, where some backends cannot add up what the devices hold.
    """
    module.allow_zero_length_dataloader_with_multiple_devices = True  # of fewer rows than devices
    with _counted(module):
        trainer.test(module, row_loader(n), verbose=False)
    for part in module.modules():
        if isinstance(part, Metric):
            part.to(trainer.strategy.root_device)


@contextmanager
def _counted(module: pl.LightningModule) -> Iterator[None]:
    """A module's denoisers count the calls of all devices."""
    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, Denoiser):
                stack.enter_context(counted_on_all_ranks(part))
        yield
