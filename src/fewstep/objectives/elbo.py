"""The negative ELBO of Watson et al. 2021: prior + Σ L(t_{i−1}, t_i), nats per example.

L(s, t) = E KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) for s > 0, and the decoder's −E log p(x_0 | x_t) for s = 0. Both
depend on the network through sums at t alone, so that one call per timestep and image fills the table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.decoders import DECODERS, Decoder
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.likelihood import prior_nats
from fewstep.objectives.base import NATS, Objective, Statistics
from fewstep.objectives.step_terms import image_step_nats
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError
from fewstep.variance import VARIANCES, LearnedVariance, Variance

ROWS = 128  # of the table at a time, so that its temporaries stay small


def step_nats(
    process: Process, s: Tensor, t: Tensor, variance: Variance, error: Tensor, dimensions: int
) -> Tensor:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) of steps (s, t), s > 0, under a scalar variance, nats, float64.

    KL = ½ [D (r − 1) + (D + (SNR(s) − SNR(t)) e) e^{−r}], r = log σ_p²/σ̃²  (Watson et al. 2021; c²/σ̃² is the
    difference of the SNRs).

    Args:
        process: the forward process.
        s: times, broadcastable with t.
        t: times.
        variance: the model's variance kind, σ_p².
        error: ‖x_0 − x̂_0(x_t)‖², broadcastable with s and t.
        dimensions: D.
    """
    log_ratio = variance.log_ratio(process, s, t)
    distance = process.snr_gained(s, t) * error
    return 0.5 * (dimensions * (log_ratio + torch.expm1(-log_ratio)) + distance * torch.exp(-log_ratio))


class ElboObjective(Objective):
    """The negative ELBO (Watson et al. 2021) under a variance kind and the decoder's convention.

    Args:
        variance: `posterior`, `beta`, `optimal`, or `learned`, of networks with a variance head.
        decoder: `additive`, whose term depends on its own step alone, or `improved_diffusion`, whose term depends
            on the schedule's first two nodes (fewstep.decoders).
    """

    name = "elbo"
    unit = NATS

    def __init__(self, variance: str = "optimal", decoder: str = "additive") -> None:
        if variance not in VARIANCES:
            raise UserError(f"There is no variance kind {variance!r}; allowed are {', '.join(VARIANCES)}.")
        if decoder not in DECODERS:
            raise UserError(f"There is no decoder convention {decoder!r}; allowed are {', '.join(DECODERS)}.")
        self.variance = variance
        self.decoder = decoder
        self.needs: Sequence[str] = (self._decoder.statistics,)

    @property
    def _decoder(self) -> Decoder:
        return DECODERS[self.decoder]

    def _measured(self, statistics: Statistics) -> DenoisingError:
        measured: DenoisingError = statistics[self._decoder.statistics]
        return measured

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """L(s, t) for every s < t on the grid, means over the statistics' images; needs the whole grid.

        Under `improved_diffusion` the first two steps' costs are the table's `first_pairs`.
        """
        measured = self._measured(statistics)
        process = measured.process
        if len(measured.indices) != process.T:
            raise UserError(
                f"The table of the ELBO needs statistics at all {process.T} timesteps; given were "
                f"{len(measured.indices)}."
            )
        costs = torch.full((process.T + 1, process.T + 1), torch.inf, dtype=torch.float64)

        def fill(first: int) -> None:
            s, t = torch.arange(first, min(first + ROWS, process.T)), torch.arange(first + 1, process.T + 1)
            nats = self._mean_step_nats(measured, s, t)
            costs[first : first + len(s), first + 1 :] = torch.where(s[:, None] < t, nats, torch.inf)

        spread(fill, range(1, process.T, ROWS))
        first_pairs = self._decoder.fill(costs, measured, self.variance)
        return CostTable(process.grid, costs, self.unit, first_pairs, measured.dimensions)

    def _mean_step_nats(self, measured: DenoisingError, s: Tensor, t: Tensor) -> Tensor:
        """[S, k] for grid indices s [S] and t [k] of statistics at all timesteps."""
        process, rows = measured.process, t - 1
        times_s, times_t = process.grid[s][:, None], process.grid[t][None]
        if self.variance == LearnedVariance.name:
            return measured.fraction_sums().mean_step_nats(process, times_s, times_t, rows)
        variance, error = measured.variance(self.variance), measured.error[rows].mean(1)
        return step_nats(process, times_s, times_t, variance, error, measured.dimensions)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The negative ELBO of every image under a schedule on the grid, prior included; float64 [images]."""
        measured = self._measured(statistics)
        schedule.require_process(measured.process)
        first = self._decoder.image_nats(measured, self.variance, schedule.indices)
        rows = measured.rows(schedule.indices[2:])
        s, t = schedule.times[1:-1], schedule.times[2:]
        if self.variance == LearnedVariance.name:
            steps = measured.fraction_sums().step_nats(measured.process, s, t, rows)
        else:
            variance = measured.variance(self.variance)
            steps = step_nats(
                measured.process, s[:, None], t[:, None], variance, measured.error[rows], measured.dimensions
            )
        return measured.prior + first + steps.sum(0)

    def network_nats(
        self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics
    ) -> Tensor:
        """The negative ELBO of images [B, …] at `times` [K+1] by K network calls, differentiable in them; [B].

        The noise [B, …] is common to all times. Statistics give the grey levels, and e/D to `optimal`.
        """
        process, measured = denoiser.process, self._measured(statistics)
        variance = measured.variance(self.variance)
        predictions = [self._decoder.prediction(denoiser(process.add_noise(x0, t, noise), t)) for t in times[1:]]
        nats = prior_nats(process, x0) + self._decoder.network_nats(
            process, times, x0, predictions[0], variance, measured.levels
        )
        for s, t, prediction in zip(times[1:-1], times[2:], predictions[1:], strict=True):
            nats = nats + image_step_nats(process, s, t, x0, prediction, variance, measured.levels)
        return nats

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The mean of `network_nats`."""
        return self.network_nats(denoiser, x0, times, noise, statistics).mean()

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """½ c²/σ_p² per step and ½/σ² for the decoder, float64 [K]: the ELBO's slope in each e(t_i).

        Under `learned` a step's is its error's share of the KL over e(t_i), the slope where all pixels' errors
        grow alike, and the decoder's variance is `posterior`'s.
        """
        measured = self._measured(statistics)
        process, variance = measured.process, measured.variance(self.variance)
        s, t = schedule.times[1:-1], schedule.times[2:]
        first = schedule.times[1:2]
        if self.variance == LearnedVariance.name:
            rows = measured.rows(schedule.indices[2:])
            steps = measured.fraction_sums().mean_weights(process, s, t, rows) / measured.error[rows].mean(1)
            return torch.cat([0.5 / measured.variance("posterior").decoder(process, first), steps])
        steps = process.snr_gained(s, t) * torch.exp(-variance.log_ratio(process, s, t))
        return 0.5 * torch.cat([1 / variance.decoder(process, first), steps])
