"""What every solver offers. A new solver is one file with `__call__`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fewstep.calls import ABOUT, Calls
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.objectives.base import Statistics
from fewstep.schedule import Schedule


@dataclass(frozen=True)
class Step:
    """One move of a solver from time t to s.

    Attributes:
        x: the state x_s, float64 [B, …]; at s = 0 the sample.
        x0: x̂_0(x_t), the network's prediction behind the move.
        s: where the move ends.
        t: where it began.
    """

    x: Tensor
    x0: Tensor
    s: float
    t: float


class Solver(Protocol):
    """Runs the reverse process over a schedule, lazily; the caller decides about gradients.

    Attributes:
        name: the solver's word in configs and tables.
        variance: the variance kind of a stochastic solver; None where there is no such choice.
        adds_noise: whether it adds noise on its way; where not, the first state decides the sample.
        needs: the kinds of statistics that `fit` must be given before the first call.
    """

    name: str
    variance: str | None
    adds_noise: bool
    needs: Sequence[str]

    def fit(self, statistics: Statistics) -> None:
        """Take the statistics that `needs` names; nothing where it names none."""
        ...

    def __call__(
        self, denoiser: Denoiser, schedule: Schedule, noise: Noise, label: Tensor | None = None
    ) -> Iterator[Step]: ...


@runtime_checkable
class StatesCalls(Protocol):
    """A solver that says what it costs."""

    def network_calls(self, steps: int) -> int:
        """Network calls per image over a schedule of so many steps, exactly."""
        ...


def solver_calls(solver: Solver, steps: int) -> Calls:
    """The network calls of a solver per image; about one per step where it does not state them."""
    if isinstance(solver, StatesCalls):
        return Calls(solver.network_calls(steps))
    return Calls(steps, mark=ABOUT)


class NothingToFit:
    """What a solver has that neither chooses a variance kind nor reads statistics."""

    variance: str | None = None
    needs: Sequence[str] = ()

    def fit(self, statistics: Statistics) -> None:
        """Nothing to fit."""


def initial_state(denoiser: Denoiser, schedule: Schedule, noise: Noise) -> Tensor:
    """x_1 from the prior: unit variance, or σ_T² where α = 1; float64 [B, …] on the denoiser's device."""
    process = denoiser.process
    schedule.require_process(process)
    scale = torch.ones(()) if process.variance_preserving else process.sigma(process.grid[-1])
    return (scale * noise(0)).to(device_of(denoiser))


def device_of(denoiser: Denoiser) -> torch.device:
    """The device of the denoiser's parameters; the CPU where it has none."""
    return next((parameter.device for parameter in denoiser.parameters()), torch.device("cpu"))
