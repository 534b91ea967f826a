"""Nodes evenly spaced in log-SNR."""

import math

import torch
from torch import Tensor

from fewstep.process import Process
from fewstep.search.base import FixedRule, noise_level_ends, positions_of_noise_levels


class LogSnr(FixedRule):
    """`log_snr`: log σ̄_i evenly spaced from σ_0 to min(σ_T/α_T, 80), σ̄ = σ/α (DPM-Solver's rule).

    The point at σ_0, half a grey level, is replaced by 0 and the largest by T itself. Nodes go to the nearest
    grid index; collisions move up to the next free one.

    Args:
        levels: grey levels of the data.
    """

    name = "log_snr"

    def __init__(self, levels: int = 256) -> None:
        self.levels = levels

    def positions(self, process: Process, K: int) -> Tensor:
        smallest, largest = noise_level_ends(process, self.levels)
        log_levels = torch.linspace(math.log(smallest), math.log(largest), K + 1, dtype=torch.float64)
        return positions_of_noise_levels(process, log_levels[1:].exp())
