"""Quadratic stride."""

import torch
from torch import Tensor

from fewstep.process import Process
from fewstep.search.base import FixedRule


class Quadratic(FixedRule):
    """`quadratic`: t_i at grid index T (i/K)², rounded to the nearest; collisions move up to the next free index.

    DDIM's own quadratic stride (Song et al. 2021) stops at 0.8 T; here, as in every row, the first node visited
    is T itself.
    """

    name = "quadratic"

    def positions(self, process: Process, K: int) -> Tensor:
        return process.T * (torch.arange(1, K + 1, dtype=torch.float64) / K).square()
