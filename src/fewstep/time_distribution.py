"""Which times a training loop draws: all of the grid for pretraining, a schedule's for restricted fine-tuning."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule


@dataclass(frozen=True)
class Drawn:
    """Steps (s, t) drawn from a path 0 = t_0 < … < t_N.

    Attributes:
        index: int64 [B], 1 … N: t is node number `index`.
        s: float64 [B], the node below t.
        t: float64 [B].
        weight: float64 [B]; the mean of weight · loss estimates the loss that is meant.
    """

    index: Tensor
    s: Tensor
    t: Tensor
    weight: Tensor


class TimeDistribution(Protocol):
    """A distribution over the nodes of a path, as the inverse of its cumulative distribution function.

    Attributes:
        nodes: float64 [N+1], the times in use and t_0 = 0 below them, ascending.
    """

    nodes: Tensor

    def draw(self, quantiles: Tensor) -> Drawn:
        """The steps at quantiles in [0, 1), float64 [B]."""
        ...

    def observe(self, index: Tensor, losses: Tensor) -> None:
        """Learn what the steps drawn last have cost: losses [B], not weighted, of steps int64 [B]."""
        ...


class _Fixed(ABC):
    """A distribution that learns nothing, and whose loss is meant as it is drawn."""

    nodes: Tensor

    def draw(self, quantiles: Tensor) -> Drawn:
        """The steps at quantiles in [0, 1), of weight 1."""
        index = self._index(quantiles)
        nodes = self.nodes.to(index.device)
        return Drawn(index, nodes[index - 1], nodes[index], torch.ones_like(quantiles))

    def observe(self, index: Tensor, losses: Tensor) -> None:  # noqa: B027, a fixed one learns nothing
        """Nothing to learn."""

    @abstractmethod
    def _index(self, quantiles: Tensor) -> Tensor:
        """The steps at quantiles in [0, 1), int64 [B] in 1 … N."""


class UniformTimes(_Fixed):
    """Every timestep t_1 … t_T of a grid, equally likely."""

    def __init__(self, process: Process) -> None:
        self.nodes = process.grid

    def _index(self, quantiles: Tensor) -> Tensor:
        return 1 + (quantiles * (len(self.nodes) - 1)).long()


class OnSchedule(_Fixed):
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
        self.nodes = schedule.times
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

    def _index(self, quantiles: Tensor) -> Tensor:
        return _inverse(self.probabilities.to(quantiles.device), quantiles)


class SecondMomentTimes(nn.Module):
    """Importance sampling by the losses themselves: p_n ∝ √E[L_n²] (Nichol & Dhariwal 2021, eq. 18).

    E[L_n²] is the mean over the last `memory` losses seen at t_n; until every timestep has so many, all are
    equally likely. A share `uniform` of the probability is spread evenly, so that no timestep is lost. The weight
    1/(N p_n) makes the mean of weight · loss the mean over all timesteps. A module, so that what it has learned
    lies in checkpoints.

    Args:
        process: its grid's timesteps are drawn.
        memory: losses that are remembered per timestep.
        uniform: share of the probability.

    Attributes:
        losses: float64 [N, memory], the last ones of every timestep, in no order.
        seen: int64 [N], how many losses of a timestep there have been.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, process: Process, memory: int = 10, uniform: float = 1e-3) -> None:
        super().__init__()
        self.nodes = process.grid
        self.memory, self.uniform = memory, uniform
        self.register_buffer("losses", torch.zeros(process.T, memory, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(process.T, dtype=torch.int64))

    @property
    def probabilities(self) -> Tensor:
        """p_1 … p_N, float64."""
        size = self.losses.double().square().mean(1).sqrt()
        even = torch.full_like(size, 1 / len(size))
        if int(self.seen.min()) < self.memory or float(size.sum()) == 0:
            return even
        return (1 - self.uniform) * size / size.sum() + self.uniform * even

    def draw(self, quantiles: Tensor) -> Drawn:
        """The steps at quantiles in [0, 1), and 1/(N p) of each."""
        probabilities = self.probabilities.to(quantiles.device)
        index = _inverse(probabilities, quantiles)
        nodes = self.nodes.to(index.device)
        weight = 1 / (len(probabilities) * probabilities[index - 1])
        return Drawn(index, nodes[index - 1], nodes[index], weight)

    def observe(self, index: Tensor, losses: Tensor) -> None:
        """Remember the losses [B] of steps [B], later ones in the place of the oldest."""
        order = torch.argsort(index.to(self.seen.device), stable=True)
        row = index.to(self.seen.device)[order] - 1
        first, end = (torch.searchsorted(row, row, right=right) for right in (False, True))
        place = torch.arange(len(row), device=row.device)
        kept = place >= end - self.memory  # the last ones, where one batch brings more than are remembered
        column = (self.seen[row] + place - first) % self.memory
        self.losses[row[kept], column[kept]] = losses.to(self.losses)[order][kept]
        self.seen += torch.bincount(row, minlength=len(self.seen))


def _inverse(probabilities: Tensor, quantiles: Tensor) -> Tensor:
    """The number, from 1, of the probability within whose share of [0, 1) each quantile lies."""
    edges = probabilities.cumsum(0)
    index = torch.searchsorted(edges, quantiles.double().contiguous(), right=True)
    return 1 + index.clamp(max=len(edges) - 1)
