"""The teacher's local errors, carried to the end of the flow: Σ E‖δ_i‖² over the steps of a deterministic solver.

Derived for this project. A step's error δ is that of DDIM against a teacher of many steps
(fewstep.objectives.euler_steps), measured on the teacher's own states, and carried to the end as the flow would
on Gaussian data of the data's covariance. The sum over steps takes the errors as uncorrelated (power 2), or as
adding up in the worst case (power 1); `coherent_transport` is what they add up to. Nothing is left to tune: the
objective is a sum over steps, whose minimum dp finds exactly, on the fine nodes.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.euler_steps import Carried, NodeSteps, blocks, fine_nodes, step_weights
from fewstep.schedule import Schedule
from fewstep.statistics.covariance import KIND as COVARIANCE
from fewstep.statistics.fine_nodes import FineNodes, noise_levels
from fewstep.statistics.teacher_trajectories import KIND, SOLVER

POWERS = (1, 2)


class Transport(Objective):
    """Σ_i E‖δ_i‖^power of an image, δ_i carried to the end.

    Args:
        power: 2 or 1.

    Raises:
        UserError: another power.
    """

    name = "transport"
    needs: Sequence[str] = (KIND, COVARIANCE)
    solver = SOLVER

    def __init__(self, power: int = 2) -> None:
        if isinstance(power, bool) or power not in POWERS:
            raise UserError(f"The power of transport must be 1 or 2; given was {power!r}.")
        self.power = power
        self.unit = "squared error" if power == 2 else "error"

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:
        """Raise a UserError unless the trajectories are of this denoiser."""
        fine_nodes(statistics, KIND, self.name).require(denoiser)

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """E‖δ(s, t)‖^power for every s < t of the fine nodes; one step of the teacher's own costs nothing."""
        teacher = fine_nodes(statistics, KIND, self.name)
        carried = Carried(statistics, self.name, teacher.D[0, 0].numel())
        return CostTable(teacher.times, error_table(teacher, carried, self.power), self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """Σ_i ‖δ_i‖^power of every trajectory, float64 [n]; the schedule may visit any times."""
        teacher = fine_nodes(statistics, KIND, self.name)
        schedule.require_process(teacher.process)
        return self._values(statistics, teacher, schedule.times)

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The value again, on the teacher's trajectories: no network call; images and noise are not looked at."""
        teacher = fine_nodes(statistics, KIND, self.name)
        return self._values(statistics, teacher, times.cpu()).mean().to(times.device)

    def _values(self, statistics: Statistics, teacher: FineNodes, times: Tensor) -> Tensor:
        carried = Carried(statistics, self.name, teacher.D[0, 0].numel())
        return torch.cat([_powers(errors, self.power).sum(0) for errors in step_errors(teacher, times, carried)])


def step_errors(teacher: FineNodes, times: Tensor, carried: Carried | None) -> Iterator[Tensor]:
    """δ_i of every step of a schedule, float64 [K, n, D], some trajectories at a time; differentiable in `times`.

    Args:
        teacher: the trajectories.
        times: float64 [K+1], the schedule's.
        carried: to the end, in the covariance's directions; None: as they arise, pixel by pixel.
    """
    sigma = noise_levels(teacher.process, times)
    weights = step_weights(sigma[:-1], sigma[1:], teacher.noise_levels)
    for D in blocks(teacher):
        errors = torch.einsum("km,mnd->knd", weights, D)
        if carried is not None:
            errors = (errors @ carried.basis) * carried.factors(sigma[:-1])[:, None]
        yield errors


def error_table(teacher: FineNodes, carried: Carried | None, power: int) -> Tensor:
    """E‖δ(s, t)‖^power, float64 [M+1, M+1] of the fine nodes, +∞ unless s < t."""
    sigma, n = teacher.noise_levels, teacher.D.shape[1]
    M = len(sigma) - 1
    costs = torch.zeros(M + 1, M + 1, dtype=torch.float64)
    for block in blocks(teacher):
        steps = NodeSteps(block if carried is None else block @ carried.basis, sigma)

        def fill(s: int, steps: NodeSteps = steps) -> None:
            errors = steps.to(s) if carried is None else steps.to(s) * carried.factors(sigma[s])
            costs[s, s + 1 :] += _powers(errors, power).sum(1)

        spread(fill, range(M))
    costs.diagonal(1).zero_()  # what the teacher itself does, but for rounding
    below = torch.ones_like(costs, dtype=torch.bool).tril()
    return (costs / n).masked_fill(below, torch.inf)


def lengths(errors: Tensor) -> Tensor:
    """‖δ‖ over the last dimension, with a slope where it is 0 too."""
    return errors.square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny).sqrt()


def _powers(errors: Tensor, power: int) -> Tensor:
    """‖δ‖^power over the last dimension."""
    return lengths(errors) if power == 1 else errors.square().sum(-1)
