"""The ancestral sampler (Ho et al. 2020)."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.base import Statistics
from fewstep.schedule import Schedule
from fewstep.solvers.base import Step, initial_state
from fewstep.statistics.denoising_error import KIND
from fewstep.variance import VARIANCES, Variance, make_variance


class Ancestral:
    """`ancestral`: x_s ~ N(c x̂_0 + α_{t|s} σ_s²/σ_t² x_t, σ_p²), the model p(x_s | x_t) of the ELBO itself.

    Args:
        variance: the variance kind of σ_p²; `optimal` must be fitted to statistics before the first call.
    """

    name = "ancestral"
    adds_noise = True

    def __init__(self, variance: str = "optimal") -> None:
        if variance not in VARIANCES:
            raise UserError(f"There is no variance kind {variance!r}; allowed are {', '.join(VARIANCES)}.")
        self.variance = variance
        self.needs: Sequence[str] = (KIND,) if variance == "optimal" else ()
        self._statistics: Statistics = {}

    def fit(self, statistics: Statistics) -> None:
        """Take the statistics that `needs` names."""
        self._statistics = statistics

    def _model_variance(self) -> Variance:
        return self._statistics[KIND].variance(self.variance) if self._statistics else make_variance(self.variance)

    def network_calls(self, steps: int) -> int:
        """One per step."""
        return steps

    def __call__(
        self, denoiser: Denoiser, schedule: Schedule, noise: Noise, label: Tensor | None = None
    ) -> Iterator[Step]:
        """K steps, K network calls; the last one goes to t = 0 and returns x̂_0, the decoder's mean."""
        process, times, variance = denoiser.process, schedule.times, self._model_variance()
        x = initial_state(denoiser, schedule, noise)
        for move, i in enumerate(range(schedule.steps, 0, -1), start=1):
            s, t = times[i - 1], times[i]
            prediction = denoiser(x, t, label)
            transition = process.transition(s, t)
            x = transition.x0_coefficient * prediction.x0 + transition.xt_coefficient * x
            if s > 0:
                x = x + variance.step(process, s, t, prediction.fraction).sqrt().to(x.device) * noise(move).to(
                    x.device
                )
            yield Step(x, prediction.x0, s.item(), t.item())
