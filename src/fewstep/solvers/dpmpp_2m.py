"""DPM-Solver++(2M) (Lu et al. 2022)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.schedule import Schedule
from fewstep.solvers.base import NothingToFit, Step, initial_state

# A step this many times the one before it would multiply float32's rounding of x̂_0 (6e-8) to a few per cent.
LARGEST_GROWTH = 1e6


class Dpmpp2M(NothingToFit):
    """`dpmpp_2m`: x_s = σ_s/σ_t x_t − α_s (e^{−h} − 1) D in λ = log(α/σ), h = λ_s − λ_t; second order.

    Lu et al. 2022 (DPM-Solver++), algorithm 2, multistep and in data prediction. With r = h_before/h,

    D = (1 + 1/(2r)) x̂_0(x_t) − 1/(2r) x̂_0 of the step before,

    the prediction extrapolated to the middle of the step. The first step has none before it and is first order,
    with D = x̂_0(x_t); once does not lower the order. The last one, to t = 0, takes D = x̂_0(x_t) too: λ and h are
    infinite there, nothing can be extrapolated over them, and e^{−h} = 0 leaves x_0 = D. So the state at t_1 is
    second order, and one or two steps are DDIM's. From an infinite noise level h is infinite too: e^{−h} = 0, and
    the step after it extrapolates by 1/(2r) = 0, the limit of both.
    """

    name = "dpmpp_2m"
    adds_noise = False

    def network_calls(self, steps: int) -> int:
        """One per step."""
        return steps

    def __call__(
        self, denoiser: Denoiser, schedule: Schedule, noise: Noise, label: Tensor | None = None
    ) -> Iterator[Step]:
        """K steps, K network calls; the last one goes to t = 0 and returns x̂_0.

        Raises:
            UserError: the schedule was made for another process, or steps a million times as far as the step
                before in λ.
        """
        process, times = denoiser.process, schedule.times
        x = initial_state(denoiser, schedule, noise)
        lengths = _lengths(schedule)
        x0_before = None
        for i in range(schedule.steps, 0, -1):
            s, t, h = times[i - 1], times[i], lengths[i - 1]
            x0 = denoiser(x, t, label).x0
            if x0_before is None or s == 0:
                D = x0
            else:
                D = x0 + h / (2 * lengths[i]) * (x0 - x0_before)
            x = process.sigma(s) / process.sigma(t) * x - process.alpha(s) * torch.expm1(-h) * D
            x0_before = x0
            yield Step(x, x0, s.item(), t.item())


def _lengths(schedule: Schedule) -> Tensor:
    """h of the steps (t_{i−1}, t_i), i = 1 … K, float64 [K]; the first of them is infinite."""
    lengths = -schedule.process.log_snr(schedule.times).diff() / 2
    for i in range(1, schedule.steps - 1):
        h, h_before = lengths[i].item(), lengths[i + 1].item()
        if not h < LARGEST_GROWTH * h_before:
            s, t = schedule.times[i + 1 : i + 3].tolist()
            raise UserError(
                f"The dpmpp_2m solver cannot run a schedule that steps from time {t!r} to {s!r}: that is "
                f"{h_before:.3g} in log(α/σ), and a step must be more than a millionth of the next, here {h:.3g}."
            )
    return lengths
