"""How rows of work are shared out over devices: every row exactly once, results back in order."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torchmetrics import Metric


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
    trainer.test(module, row_loader(n), verbose=False)
    for part in module.modules():
        if isinstance(part, Metric):
            part.to(trainer.strategy.root_device)


def gathered(mine: Tensor, n: int) -> Tensor:
    """[n], the rows of all ranks in order, on every rank; `mine` are the rows rank, rank + world, …, finite."""
    if world() == 1:
        return mine
    rows = mine.new_zeros(n)
    rows[rank() :: world()] = mine
    torch.distributed.all_reduce(rows)  # every row is zero on all ranks but one, so the sum is exact
    return rows


def rank() -> int:
    """This process's number among the devices; 0 where there is one."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """The number of devices."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
