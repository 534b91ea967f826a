"""A teacher's statistics of Gaussian data with its exact denoiser, where everything has a closed form."""

from collections.abc import Sequence
from typing import Any

import torch

from fewstep.denoiser import Denoiser
from fewstep.process import Process
from fewstep.statistics.covariance import DataCovariance, MeasuredCovariance
from fewstep.statistics.teacher_trajectories import Estimator
from tests.conftest import PerfectBackbone


def exact_denoiser(process: Process, c: Sequence[float]) -> Denoiser:
    """Of data with these standard deviations along the axes."""
    variances = torch.tensor(c, dtype=torch.float64).square()
    backbone = PerfectBackbone(process, torch.zeros(()), variances, torch.eye(len(c), dtype=torch.float64))
    return Denoiser(backbone, process, "x0")


def teacher_statistics(denoiser: Denoiser, c: Sequence[float], steps: int, trajectories: int) -> dict[str, Any]:
    """Trajectories of pixels with these standard deviations, and the covariance, exact."""
    settings = {"split": "train", "levels": 257, "seed": 0, "batch_size": 32}
    estimator = Estimator(torch.zeros(1, 1, 1, len(c)), None, **settings, trajectories=trajectories, steps=steps)
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
    spread = torch.tensor(c, dtype=torch.float64)
    data = DataCovariance(torch.zeros(len(c)), spread.square(), torch.eye(len(c), dtype=torch.float64))
    covariance = MeasuredCovariance(process=denoiser.process, data=data, n_images=100, split="train")
    return {"teacher_trajectories": estimator.collect(denoiser.process, rows), "covariance": covariance}
