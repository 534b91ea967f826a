"""What every objective offers; see DESIGN for the words. A new objective is one file that has these methods."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.schedule import Schedule

Statistics = Mapping[str, Any]  # kind → statistics, such as {"denoising_error": DenoisingError(…)}


class Objective(Protocol):
    """What a schedule is judged by.

    Attributes:
        name: the objective's word in configs and tables.
        needs: the kinds of statistics that it reads.
    """

    name: str
    needs: Sequence[str]

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """The cost of every step (s, t) on the grid; `around` is the path that it is linearised at, if it is."""
        ...

    def value(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> float:
        """The true value of a schedule, constants included; this ranks schedules."""
        ...

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """Monte Carlo estimate on images x0 and noise [B, …], a scalar, differentiable in `times` [K+1]."""
        ...

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """∂ value / ∂ e(t_i) for i = 1 … K, float64 [K]: how much the error at each chosen timestep matters."""
        ...
