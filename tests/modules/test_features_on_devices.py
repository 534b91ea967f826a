"""Features on two devices: the moments and measures that one device finds, even where one has nothing to do."""

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import pytorch_lightning as pl
import torch
from torch import nn
from fewstep.metrics.frechet import FeatureMoments, FrechetDistance
from fewstep.metrics.kid import KernelDistance
from fewstep.metrics.moments import FeatureSums
from fewstep.metrics.precision_recall import PrecisionRecall
from fewstep.modules.features import RealFeatures
from fewstep.modules.sharing import predict_rows, update_metrics

class Flat(nn.Module):
    def features(self, images):
        return images.flatten(1)

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
found = {}
for n in (300, 50):  # blocks of 128: three of them, then one
    generator = torch.Generator().manual_seed(n)
    images, reference = torch.randn(n, 1, 2, 2, generator=generator), torch.randn(70, 4, generator=generator)
    metrics = [
        FeatureSums(4), FrechetDistance(FeatureMoments.of(reference)),
        KernelDistance(reference, n), PrecisionRecall(reference, n),
    ]
    def trainer():
        return pl.Trainer(
            accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, use_distributed_sampler=False,
        )
    module = RealFeatures(Flat(), images, metrics=metrics)
    update_metrics(trainer(), module, module.blocks)
    mean, covariance, count = metrics[0].compute()
    found[f"moments {n}"] = [mean.tolist(), covariance.flatten().tolist(), [float(count)]]
    found[f"frechet {n}"] = [list(metrics[1].compute())]
    found[f"kept {n}"] = [list(value) for metric in metrics[2:] for value in metric.compute().values()]
    kept = torch.cat(predict_rows(trainer(), RealFeatures(Flat(), images, torch.arange(n).flip(0)), module.blocks))
    found[f"features {n}"] = [bool(torch.equal(kept, images.flatten(1).flip(0)))]
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
(folder / f"{devices}-{rank}.json").write_text(json.dumps(found))
if torch.distributed.is_initialized():  # else threads of gloo may still run when the process ends
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_two_devices_find_what_one_finds(on_devices: Callable[[str], list[Any]]) -> None:
    one, first, second = on_devices(PROGRAM)
    assert first == second
    for name, values in one.items():
        if name.startswith(("kept", "features")):
            assert first[name] == values  # to the bit: features are kept by index
        else:
            for mine, theirs in zip(values, first[name], strict=True):
                assert mine == pytest.approx(theirs, rel=1e-10, abs=1e-12)
    assert one["features 300"] == one["features 50"] == [True]
