"""The rule of Karras et al. 2022."""

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.search.base import FixedRule, noise_level_ends, positions_of_noise_levels


class Karras(FixedRule):
    """`karras`: σ̄_i^{1/ρ} evenly spaced from σ_0 to min(σ_T/α_T, 80) (Karras et al. 2022, eq. 5).

    The point at σ_0, half a grey level, is replaced by 0 (theirs visits it and appends 0) and the largest by T
    itself. Nodes go to the nearest grid index; collisions move up to the next free one.

    Args:
        rho: ρ; 7 is the paper's.
        levels: grey levels of the data.
    """

    name = "karras"

    def __init__(self, rho: float = 7.0, levels: int = 256) -> None:
        if not rho > 0:
            raise UserError(f"Karras's ρ must be positive; given was {rho}.")
        self.rho = rho
        self.levels = levels

    def positions(self, process: Process, K: int) -> Tensor:
        smallest, largest = noise_level_ends(process, self.levels)
        roots = torch.linspace(smallest ** (1 / self.rho), largest ** (1 / self.rho), K + 1, dtype=torch.float64)
        return positions_of_noise_levels(process, roots[1:] ** self.rho)
