"""The negative ELBO of Watson et al. 2021: prior + Σ L(t_{i−1}, t_i), nats per example.

L(s, t) = E KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) for s > 0, and the decoder's −E log p(x_0 | x_t) for s = 0. With
scalar variances both depend on the network through e(t) alone (and the decoder's own sum), so that one call
per timestep and image fills the table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.likelihood import discretised_gaussian_nats, prior_nats
from fewstep.objectives.base import Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.variance import VARIANCES, Variance

DECODERS = ("additive",)


def step_nats(
    process: Process, s: Tensor, t: Tensor, variance: Variance, error: Tensor, dimensions: int
) -> Tensor:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) of steps (s, t), s > 0, nats per example, float64.

    KL = ½ [D (log σ_p²/σ̃² − 1) + (D σ̃² + c² e)/σ_p²]  (Watson et al. 2021, with the posteriors of Ho et al.)

    Args:
        process: the forward process.
        s: times, broadcastable with t.
        t: times.
        variance: the model's variance kind, σ_p².
        error: ‖x_0 − x̂_0(x_t)‖², broadcastable with s and t.
        dimensions: D.
    """
    transition = process.transition(s, t)
    posterior_variance, c = transition.posterior_variance, transition.x0_coefficient
    model_variance = variance.step(process, s, t)
    log_ratio = torch.log(model_variance / posterior_variance)
    spread = (dimensions * posterior_variance + c.square() * error) / model_variance
    return 0.5 * (dimensions * (log_ratio - 1) + spread)


class ElboObjective:
    """The negative ELBO under a variance kind and the decoder's convention.

    Args:
        variance: `posterior`, `beta` or `optimal`.
        decoder: `additive`: the decoder's term depends on its own step alone, so that the programme is exact.
    """

    name = "elbo"
    needs: Sequence[str] = (KIND,)

    def __init__(self, variance: str = "optimal", decoder: str = "additive") -> None:
        if variance not in VARIANCES:
            raise UserError(f"There is no variance kind {variance!r}; allowed are {', '.join(VARIANCES)}.")
        if decoder not in DECODERS:
            raise UserError(f"There is no decoder convention {decoder!r}; allowed is {', '.join(DECODERS)}.")
        self.variance = variance
        self.decoder = decoder

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """L(s, t) for every s < t on the grid, means over the statistics' images; needs the whole grid."""
        measured: DenoisingError = statistics[KIND]
        process = measured.process
        if len(measured.indices) != process.T:
            raise UserError(
                f"The table of the ELBO needs statistics at all {process.T} timesteps; given were "
                f"{len(measured.indices)}."
            )
        times, error = process.grid, measured.error.mean(1)
        costs = torch.full((process.T + 1, process.T + 1), torch.inf, dtype=torch.float64)
        costs[0, 1:] = measured.decoder(self.variance).mean(1)
        variance = measured.variance(self.variance)
        rows = 256  # the table is filled in slabs, so that its temporaries stay small beside it
        for first in range(1, process.T, rows):
            s = torch.arange(first, min(first + rows, process.T))
            t = torch.arange(first + 1, process.T + 1)
            nats = step_nats(
                process, times[s][:, None], times[t][None], variance, error[t - 1][None], measured.dimensions
            )
            costs[first : first + len(s), first + 1 :] = torch.where(s[:, None] < t[None], nats, torch.inf)
        return CostTable(times, costs, "nats/example")

    def image_nats(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """The negative ELBO of every image under a schedule on the grid, prior included; float64 [images]."""
        measured: DenoisingError = statistics[KIND]
        schedule.require_process(measured.process)
        rows = measured.rows(schedule.indices[1:])
        times = schedule.times
        steps = step_nats(
            measured.process,
            times[1:-1, None],
            times[2:, None],
            measured.variance(self.variance),
            measured.error[rows[1:]],
            measured.dimensions,
        )
        return measured.prior + measured.decoder(self.variance)[rows[0]] + steps.sum(0)

    def value(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> float:
        """The negative ELBO of a schedule, prior included, nats per example: the mean of `image_nats`."""
        return self.image_nats(statistics, schedule).mean().item()

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The negative ELBO of images [B, …] at `times` [K+1], differentiable in them; the noise is common."""
        process = denoiser.process
        measured: DenoisingError = statistics[KIND]
        variance = measured.variance(self.variance)
        dimensions = x0[0].numel()
        predicted = [denoiser(process.add_noise(x0, t, noise), t).x0 for t in times[1:]]
        error = torch.stack([(x0 - prediction).square().flatten(1).sum(1) for prediction in predicted])
        steps = step_nats(process, times[1:-1, None], times[2:, None], variance, error[1:], dimensions)
        decoder_variance = variance.decoder(process, times[1])
        decoder = discretised_gaussian_nats(x0, predicted[0], decoder_variance, measured.levels)
        return (prior_nats(process, x0) + decoder + steps.sum(0)).mean()

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """½ c²/σ_p² per step and ½/σ² for the decoder, float64 [K]: the ELBO's slope in each e(t_i)."""
        measured: DenoisingError = statistics[KIND]
        process, variance = measured.process, measured.variance(self.variance)
        s, t = schedule.times[1:-1], schedule.times[2:]
        steps = process.transition(s, t).x0_coefficient.square() / variance.step(process, s, t)
        return 0.5 * torch.cat([1 / variance.decoder(process, schedule.times[1:2]), steps])
