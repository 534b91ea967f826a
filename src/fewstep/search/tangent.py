"""The tangent law."""

import math

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.search.base import FixedRule, noise_level_ends, positions_of_noise_levels


class Tangent(FixedRule):
    """`tangent`: arctan(σ̄_i/c) evenly spaced from σ_0 to min(σ_T/α_T, 80) (Align Your Steps, Theorem 3.1).

    Optimal for Euler's method on Gaussian data of standard deviation c. The point at σ_0, half a grey level, is
    replaced by 0 and the largest by T itself. Nodes go to the nearest grid index; collisions move up to the next
    free one.

    Args:
        data_std: c, the data's standard deviation per pixel.
        levels: grey levels of the data.
    """

    name = "tangent"

    def __init__(self, data_std: float = 0.5, levels: int = 256) -> None:
        if not data_std > 0:
            raise UserError(f"The data's standard deviation must be positive; given was {data_std}.")
        self.data_std = data_std
        self.levels = levels

    def positions(self, process: Process, K: int) -> Tensor:
        smallest, largest = noise_level_ends(process, self.levels)
        c = self.data_std
        angles = torch.linspace(math.atan(smallest / c), math.atan(largest / c), K + 1, dtype=torch.float64)
        return positions_of_noise_levels(process, c * torch.tan(angles[1:]))
