"""What an objective is; see DESIGN for the words. A new objective is one file with a subclass of `Objective`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fewstep.calls import Calls
from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.schedule import Schedule

Statistics = Mapping[str, Any]  # kind → statistics, such as {"denoising_error": DenoisingError(…)}
NATS = "nats/example"


class Objective(ABC):
    """What a schedule is judged by.

    A subclass gives the values of a path, and whichever of the other forms it has: `edge_costs` makes it
    `additive`, for dp, and `loss` makes it `differentiable`, for gradient.

    Attributes:
        name: the objective's word in configs and tables.
        unit: what its values are counted in; `NATS` where bits/dim can be asked of them.
        needs: the kinds of statistics that it reads.
        solver: the solver whose error it is, where it is of one.
        linearised: whether `edge_costs` is exact only near the path `around`, so that dp goes from table to table.
        sample_seeds: the seeds of the samples that it judges, which no evaluation may judge too; mostly none.
    """

    name: str
    unit: str
    needs: Sequence[str]
    solver: str | None = None
    linearised = False
    sample_seeds: Sequence[int] = ()

    @property
    def additive(self) -> bool:
        """Whether it is a sum over steps, as `edge_costs` tells them."""
        return type(self).edge_costs is not Objective.edge_costs

    @property
    def differentiable(self) -> bool:
        """Whether it has a `loss`, differentiable in times."""
        return type(self).loss is not Objective.loss

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:  # noqa: B027
        """Raise a UserError where statistics tell that they are of another process or of other weights."""

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """The cost of every step (s, t) on the grid; `around` is the path that it is linearised at, if it is.

        Raises:
            UserError: the objective is not a sum over steps.
        """
        raise UserError(f"The objective {self.name!r} is no sum over steps, so that it has no table of costs.")

    @abstractmethod
    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The true value of a schedule on the grid, image by image, constants included; float64 [images].

        One number where the objective does not look at images. The denoiser is the one that the statistics are of;
        most objectives need nothing of it but these.
        """

    def value(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> float:
        """The true value of a schedule, the mean of `image_values`; this ranks schedules."""
        return self.image_values(statistics, schedule, denoiser).mean().item()

    def value_calls(self, steps: int) -> Calls:
        """The network calls of one `value` at so many steps; most objectives make none."""
        return Calls()

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """Monte Carlo estimate on images x0 and noise [B, …], a scalar, differentiable in `times` [K+1].

        The denoiser is called on these B images in their order: where it takes labels, it has been given theirs.

        Raises:
            UserError: the objective has none.
        """
        raise UserError(f"The objective {self.name!r} has no loss that is differentiable in times.")

    def loss_calls(self, steps: int) -> int:
        """Network calls per image of one `loss` at so many steps."""
        return steps

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor | None:
        """∂ value / ∂ e(t_i) for i = 1 … K, float64 [K]: how much the error at each chosen timestep matters.

        None where the objective does not look at the network's error.
        """
        return None
