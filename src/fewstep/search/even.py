"""Even stride."""

import torch
from torch import Tensor

from fewstep.process import Process
from fewstep.search.base import FixedRule


class Even(FixedRule):
    """`even`: t_i at grid index T i/K, rounded to the nearest (half to even); never collides for K ≤ T."""

    name = "even"

    def positions(self, process: Process, K: int) -> Tensor:
        return process.T * torch.arange(1, K + 1, dtype=torch.float64) / K
