"""The reweighted squared error of Watson et al. 2021, L_w(s, t) = (t − s) e(t): their remedy for sample quality.

The ELBO weighs e(t) by differences of the SNR, which small noise levels dominate, and its schedules sample poorly.
Here every step counts by its length, so that the whole is the mean squared error of x̂_0 over the time spent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.objectives.base import Objective, Statistics
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError


class MseReweighted(Objective):
    """Σ (t_i − t_{i−1}) e(t_i), the squared error reweighted (Watson et al. 2021); time runs from 0 to 1."""

    name = "mse_reweighted"
    unit = "squared error"
    needs: Sequence[str] = (KIND,)

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """(t − s) e(t) for every s < t of the statistics' times and 0."""
        measured: DenoisingError = statistics[KIND]
        times = torch.cat([measured.times.new_zeros(1), measured.times])
        error = torch.cat([times.new_zeros(1), measured.error.mean(1)])
        length = times - times[:, None]
        return CostTable(times, (length * error).masked_fill(length <= 0, torch.inf), self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The sum over the steps of a schedule on the grid, float64 [images]."""
        measured: DenoisingError = statistics[KIND]
        schedule.require_process(measured.process)
        return schedule.times.diff() @ measured.error[measured.rows(schedule.indices[1:])]

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The sum on images x0 and noise [B, …], differentiable in `times` [K+1]."""
        predicted = [denoiser(denoiser.process.add_noise(x0, t, noise), t).x0 for t in times[1:]]
        error = torch.stack([(x0 - x_hat).double().square().flatten(1).sum(1).mean() for x_hat in predicted])
        return (times.diff().to(error.device) * error).sum()

    def time_weights(self, statistics: Statistics, schedule: Schedule) -> Tensor:
        """t_i − t_{i−1}, float64 [K]."""
        return schedule.times.diff()
