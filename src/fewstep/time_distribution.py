"""Which times a training loop draws: all of the grid for pretraining, a schedule's for restricted fine-tuning."""

from typing import Protocol

import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule


class TimeDistribution(Protocol):
    """A distribution over times, as the inverse of its cumulative distribution function."""

    def times(self, quantiles: Tensor) -> Tensor:
        """The times, float64 [B], at quantiles in [0, 1), [B]."""
        ...


class UniformTimes:
    """Every timestep t_1 … t_T of a grid, equally likely."""

    def __init__(self, process: Process) -> None:
        self.grid = process.grid[1:]

    def times(self, quantiles: Tensor) -> Tensor:
        return self.grid[(quantiles * len(self.grid)).long()]


class OnSchedule:
    """The chosen timesteps t_1 … t_K of a schedule, and no others.

    Args:
        schedule: the schedule.
        probabilities: [K], of t_1 … t_K; they need not be normalised.
    """

    def __init__(self, schedule: Schedule, probabilities: Tensor) -> None:
        if len(probabilities) != schedule.steps or not bool((probabilities > 0).all()):
            raise UserError(
                f"A schedule of {schedule.steps} steps needs as many positive probabilities; given were "
                f"{probabilities.tolist()}."
            )
        self.chosen = schedule.times[1:]
        self.probabilities = probabilities.double() / probabilities.double().sum()

    @classmethod
    def uniform(cls, schedule: Schedule) -> "OnSchedule":
        """Every chosen timestep equally often."""
        return cls(schedule, torch.ones(schedule.steps))

    @classmethod
    def of_objective(cls, schedule: Schedule, time_weights: Tensor, denoiser: Denoiser) -> "OnSchedule":
        """So often that the expected loss is the objective's: Σ ∂value/∂e(t_i) · e(t_i), up to a constant.

        The loss weighs an error at t by `denoiser.loss_weight(t)`, so t_i is drawn with probability proportional
        to time_weights[i] over that.
        """
        return cls(schedule, time_weights / denoiser.loss_weight(schedule.times[1:]))

    def times(self, quantiles: Tensor) -> Tensor:
        edges = self.probabilities.cumsum(0)
        return self.chosen[torch.searchsorted(edges, quantiles.double(), right=True).clamp(max=len(edges) - 1)]
