"""What importance sampling learns belongs to the run: two devices see the losses that one sees, in their order."""

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import pytorch_lightning as pl
import torch
from torch import nn
from fewstep.denoiser import Denoiser
from fewstep.losses.vlb import VlbLoss
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.process import Process
from fewstep.time_distribution import SecondMomentTimes

class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.2))

    def forward(self, x, time):
        return torch.cat([self.a * x, self.c * torch.ones_like(x)], dim=1)

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
process, loss = Process.cosine(5, 1 / 16), VlbLoss(17)
images = torch.randn(10, 1, 2, 2, generator=torch.Generator().manual_seed(0))
batches = TrainingBatches(images, SecondMomentTimes(process, memory=2), 5, seed=0)
validation = ValidationError(images[:2], process.grid[1:], 0, loss)
module = TrainingModule(
    Denoiser(Heads(), process, "edm"), batches, validation, None,
    learning_rate=1e-2, warmup=0, iterations=8, ema_decay=0.5, loss=loss,
)
trainer = pl.Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_steps=8, max_epochs=-1,
    logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder, use_distributed_sampler=False,
)
trainer.fit(module)
learned = {"losses": module.times.losses.tolist(), "seen": module.times.seen.tolist()}
(folder / f"{devices}-{trainer.global_rank}.json").write_text(json.dumps(learned))
"""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_device_learns_from_all_losses(on_devices: Callable[[str], list[Any]]) -> None:
    """Five images per batch on two devices, three on one and two on the other."""
    one, first, second = on_devices(PROGRAM)
    assert first == second
    assert first["seen"] == one["seen"]
    assert min(one["seen"]) >= 2
    for mine, theirs in zip(first["losses"], one["losses"], strict=True):
        # Gradients of unequal parts count by their sizes, so that their mean is the whole batch's.
        assert mine == pytest.approx(theirs, rel=1e-5)
