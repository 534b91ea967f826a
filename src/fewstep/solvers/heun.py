"""Heun's method (Karras et al. 2022)."""

from collections.abc import Iterator

from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.schedule import Schedule
from fewstep.solvers.base import NothingToFit, Step, initial_state


class Heun(NothingToFit):
    """`heun`: dz/dσ̄ = (z − x̂_0)/σ̄ by the trapezoidal rule, z = x/α, σ̄ = σ/α; second order.

    Karras et al. 2022, algorithm 1, written there for α = 1. A step (s, t) asks the network at t and, from where
    Euler's step arrives, at s. The slope at σ̄ = 0 is 0/0, so the last step is Euler's alone and returns x̂_0: K
    steps are 2K − 1 network calls. From an infinite noise level the trapezoid has no limit: it adds half the
    step's length times the difference of two slopes, which does not vanish.
    """

    name = "heun"
    adds_noise = False

    def network_calls(self, steps: int) -> int:
        """Two per step, but one in the last."""
        return 2 * steps - 1

    def __call__(
        self, denoiser: Denoiser, schedule: Schedule, noise: Noise, label: Tensor | None = None
    ) -> Iterator[Step]:
        """K steps, 2K − 1 network calls; the last step goes to t = 0 and returns x̂_0.

        Raises:
            UserError: the schedule was made for another process, or the process begins at an infinite noise level.
        """
        process, times = denoiser.process, schedule.times
        if process.zero_terminal_snr:
            raise UserError(
                f"The heun solver cannot start at the infinite noise level of {process!r}; ddim, dpmpp_2m and "
                "ancestral can."
            )
        x = initial_state(denoiser, schedule, noise)
        for i in range(schedule.steps, 0, -1):
            s, t = times[i - 1], times[i]
            x0 = denoiser(x, t, label).x0
            if s == 0:  # z − σ̄_t (z − x̂_0)/σ̄_t
                yield Step(x0, x0, s.item(), t.item())
                return
            z, level_s, level_t = x / process.alpha(t), process.noise_level(s), process.noise_level(t)
            slope_t = (z - x0) / level_t
            euler = z + (level_s - level_t) * slope_t
            slope_s = (euler - denoiser(process.alpha(s) * euler, s, label).x0) / level_s
            x = process.alpha(s) * (z + (level_s - level_t) * (slope_t + slope_s) / 2)
            yield Step(x, x0, s.item(), t.item())
