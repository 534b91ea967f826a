"""DDIM (Song et al. 2021)."""

from collections.abc import Iterator

from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.schedule import Schedule
from fewstep.solvers.base import NothingToFit, Step, initial_state


class Ddim(NothingToFit):
    """`ddim`: x_s = α_s x̂_0 + √(σ_s² − η² σ̃²) ε̂ + η σ̃ ε (Song et al. 2021, eq. 12), in x̂_0 form.

    With η = 0 it is Euler's method on the probability-flow equation in σ/α; with η = 1 it moves as the ancestral
    solver under `posterior` variance does.

    Args:
        eta: η in [0, 1].
    """

    name = "ddim"

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise UserError(f"DDIM's eta must lie in [0, 1]; given was {eta}.")
        self.eta = eta
        self.adds_noise = eta > 0

    def network_calls(self, steps: int) -> int:
        """One per step."""
        return steps

    def __call__(
        self, denoiser: Denoiser, schedule: Schedule, noise: Noise, label: Tensor | None = None
    ) -> Iterator[Step]:
        """K steps, K network calls; the last one goes to t = 0 and returns x̂_0."""
        process, times = denoiser.process, schedule.times
        x = initial_state(denoiser, schedule, noise)
        for move, i in enumerate(range(schedule.steps, 0, -1), start=1):
            s, t = times[i - 1], times[i]
            x0 = denoiser(x, t, label).x0
            fresh = self.eta * process.transition(s, t).posterior_variance.sqrt()
            direction = (process.sigma(s).square() - fresh.square()).sqrt() / process.sigma(t)
            x = process.alpha(s) * x0 + direction * (x - process.alpha(t) * x0)
            if self.adds_noise and s > 0:
                x = x + fresh * noise(move).to(x.device)
            yield Step(x, x0, s.item(), t.item())
