"""The discretization loss, a reconstruction of Huang 2024 (arXiv 2412.10786), whose abstract alone is public.

A first-order solver's output is a convex combination of the network's outputs at the chosen timesteps, so that by
Jensen's inequality its squared error is at most the training losses there, weighted by the schedule. Derived with
every assumption in docs/discretization.md. In σ̄ = σ/α, and down to σ̄_0, half a grey level:

    x0:   Σ σ̄_0^p (σ̄_s^−p − σ̄_t^−p) e(t),           eps:  Σ (σ̄_t^p − σ̄_s^p)/σ̄_T^p · e(t)/σ̄_t²,

with σ̄_0 for σ̄_s at s = 0. p = 1 is the solver's own combination; in x0 form p = 2 is the ELBO's weight under
`posterior` variance, times 2 σ̄_0².
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError

FORMS = ("x0", "eps")
ROWS = 128  # of the table at a time, so that its temporaries stay small
ROUNDING = 1e-9  # of log-SNR: a grid that begins at σ̄_0 meets it but for the last bits


class Discretization(Objective):
    """Σ w(t_{i−1}, t_i) e(t_i) or, in eps form, of the noise's error e(t_i)/σ̄²; w sums to 1 − (σ̄_0/σ̄_T)^p.

    Nodes at or below σ̄_0 are of no use: their steps are forbidden in the table, and weigh nothing elsewhere. As
    e/σ̄² falls where σ̄ grows, the eps form charges short steps more than long ones: see docs/discretization.md.

    Args:
        power: p, positive and finite.
        form: `x0` or `eps`, of the outputs that the solver combines.

    Raises:
        UserError: another power or form.
    """

    name = "discretization"
    unit = "squared error"
    needs: Sequence[str] = (KIND,)
    solver = "ddim"

    def __init__(self, power: float = 1.0, form: str = "x0") -> None:
        number = isinstance(power, int | float) and not isinstance(power, bool)
        if not number or not 0 < power < math.inf:
            raise UserError(f"The discretization loss's power must be positive and finite; given was {power!r}.")
        if form not in FORMS:
            raise UserError(f"The discretization loss has no form {form!r}; allowed are {', '.join(FORMS)}.")
        self.power = float(power)
        self.form = form

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """The cost of every s < t on the grid, +∞ where s > 0 or t lies at or below σ̄_0; needs the whole grid."""
        measured: DenoisingError = statistics[KIND]
        process = measured.process
        if len(measured.indices) != process.T:
            raise UserError(
                f"The table of the discretization loss needs statistics at all {process.T} timesteps; given were "
                f"{len(measured.indices)}."
            )
        times, error = process.grid, measured.error.mean(1)
        usable = process.log_snr(times) < _log_snr_at_end(process, measured.levels) - ROUNDING
        usable[0] = True  # t = 0 stands for σ̄_0 itself
        costs = torch.full((len(times), len(times)), torch.inf, dtype=torch.float64)

        def fill(first: int) -> None:
            s, t = torch.arange(first, min(first + ROWS, process.T)), torch.arange(first + 1, len(times))
            cost = self._weights(process, measured.levels, times[s, None], times[t]) * error[t - 1]
            allowed = (s[:, None] < t) & usable[s, None] & usable[t]
            costs[first : first + len(s), first + 1 :] = cost.masked_fill_(~allowed, torch.inf)

        spread(fill, range(0, process.T, ROWS))
        return CostTable(times, costs, self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The sum over the steps of a schedule on the grid, float64 [images]."""
        measured: DenoisingError = statistics[KIND]
        weights = self.time_weights(statistics, schedule)
        return weights @ measured.error[measured.rows(schedule.indices[1:])]

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The sum on images x0 and noise [B, …], differentiable in `times` [K+1]; statistics give the grey levels.

        The slope at a time is finite everywhere, and for times above σ̄_0 that of weight and error alike.
        """
        process, measured = denoiser.process, statistics[KIND]
        weights = self._weights(process, measured.levels, times[:-1], times[1:])
        predicted = [denoiser(process.add_noise(x0, t, noise), t).x0 for t in times[1:]]
        error = torch.stack([(x0 - x_hat).double().square().flatten(1).sum(1).mean() for x_hat in predicted])
        return (weights.to(error.device) * error).sum()

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """∂ value/∂ e(t_i), float64 [K]; 0 at or below σ̄_0."""
        measured: DenoisingError = statistics[KIND]
        schedule.require_process(measured.process)
        return self._weights(measured.process, measured.levels, schedule.times[:-1], schedule.times[1:])

    def _weights(self, process: Process, levels: int, s: Tensor, t: Tensor) -> Tensor:
        """What e(t) is multiplied by in steps (s, t), of the shape that s and t broadcast to; differentiable.

        With λ = log-SNR, σ̄^p = e^{−pλ/2}, so that both forms are one exponential times −expm1(p (λ_t − λ_s)/2).
        """
        if self.form == "eps" and process.zero_terminal_snr:
            raise UserError(
                f"The eps form of the discretization loss divides by the last noise level, which is infinite on "
                f"{process!r}; take form=x0."
            )
        end, half = _log_snr_at_end(process, levels), self.power / 2
        log_snr_s, log_snr_t = process.log_snr(s).clamp(max=end), process.log_snr(t).clamp(max=end)
        if self.form == "x0":
            scale = torch.exp(half * (log_snr_s - end))
        else:
            last = process.log_snr(process.grid[-1])
            scale = torch.exp(half * (last - log_snr_t) + process.log_snr(t))
        return -scale * torch.expm1(half * (log_snr_t - log_snr_s))


def _log_snr_at_end(process: Process, levels: int) -> float:
    """The log-SNR of σ̄_0, half a grey level on the [-1, 1] scale.

    Raises:
        UserError: the process has no noise level above σ̄_0, or there are no two grey levels.
    """
    if levels < 2:
        raise UserError(f"Images need at least 2 grey levels; given were {levels}.")
    end = 2 * math.log(levels - 1)
    if not process.log_snr(process.grid[-1]).item() < end - ROUNDING:
        raise UserError(
            f"The discretization loss ends at the noise level 1/{levels - 1}, half a grey level, but {process!r} "
            "has none above it."
        )
    return end
