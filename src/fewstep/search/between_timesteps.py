"""Whether a network that was trained on a grid can be trusted between its timesteps.

A descent in continuous time follows the slope of the error e(t) at times that the network never saw. At the middle
of a cell (n, n + 1) of the grid that slope, by automatic differentiation, is compared with the grid's own,
e(t_{n+1}) − e(t_n), on the same images and noises; so is the slope from the cell's end to its middle, which tells
of a bump whose top is flat there.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser
from fewstep.search.base import LARGEST_NOISE_LEVEL
from fewstep.search.free_gaps import log_snr_ends
from fewstep.statistics.samples import Samples

CELLS = 8
WILD = 0.5  # half the whole range of what the slope is for the best linear denoiser


@dataclass(frozen=True)
class BetweenTimesteps:
    """Slopes of the error over log-SNR, d log e/dλ, at the middles of some cells of the grid.

    For the best linear denoiser, whatever the data, the slope lies between −1 and 0. A network is wild at a cell
    where one of the other two slopes differs from the grid's by more than `WILD` = 0.5.

    Attributes:
        times: float64 [N], the middles.
        slope: by automatic differentiation there, [N].
        half_slope: by the difference over the cell's lower half, [N].
        grid_slope: by the difference over the cell, [N].
    """

    times: Tensor
    slope: Tensor
    half_slope: Tensor
    grid_slope: Tensor

    @property
    def difference(self) -> Tensor:
        """The larger of |slope − grid_slope| and |half_slope − grid_slope|, [N]."""
        return (torch.stack([self.slope, self.half_slope]) - self.grid_slope).abs().amax(0)

    @property
    def wild(self) -> list[float]:
        """The times at which the network is wild; a slope that is not finite is."""
        return self.times[~(self.difference <= WILD)].tolist()

    @property
    def facts(self) -> dict[str, Any]:
        """What schedules tell of it, JSON-able."""
        largest = self.difference.max().item()
        return {
            "times": self.times.tolist(),
            "wild": self.wild,
            "largest_difference": largest if math.isfinite(largest) else None,
        }


def between_timesteps(denoiser: Denoiser, samples: Samples, levels: int) -> BetweenTimesteps:
    """Compare the slopes at `CELLS` cells, even in log-SNR between σ̄_0 and T, at most a noise level of 80.

    Three network calls per cell and sample, one of them differentiated.
    """
    process = denoiser.process
    highest, lowest = log_snr_ends(process, levels)
    capped = -2 * torch.log(torch.tensor(LARGEST_NOISE_LEVEL, dtype=torch.float64)).item()
    edges = torch.linspace(highest, min(max(lowest, capped), highest), CELLS + 2, dtype=torch.float64)[1:-1]
    cells = (process.time_of_log_snr(edges) * process.T).floor().long().clamp(1, process.T - 1).unique()
    slopes = [_slopes(denoiser, samples, int(n)) for n in cells]
    middles = (cells.double() + 0.5) / process.T
    return BetweenTimesteps(middles, *torch.tensor(slopes, dtype=torch.float64).unbind(1))


def most_calls(samples: int) -> Calls:
    """The network calls of `between_timesteps`, where the grid has so many cells."""
    return Calls(2 * CELLS * samples, CELLS * samples, batch=samples)


def _slopes(denoiser: Denoiser, samples: Samples, n: int) -> tuple[float, float, float]:
    """d log e/dλ in the middle of the cell (n, n + 1): by automatic differentiation, over half of it, over all."""
    process = denoiser.process
    with torch.no_grad():
        below, above = (_error(denoiser, samples, process.grid[index]).item() for index in (n, n + 1))
    middle = ((process.grid[n] + process.grid[n + 1]) / 2).requires_grad_()
    with torch.enable_grad():
        error = _error(denoiser, samples, middle)
        (slope,) = torch.autograd.grad(error, middle)
    per_log_snr = error.item() * (process.log_snr(process.grid[n + 1]) - process.log_snr(process.grid[n])).item()
    risen = error.item() - below
    return slope.item() / process.T / per_log_snr, 2 * risen / per_log_snr, (above - below) / per_log_snr


def _error(denoiser: Denoiser, samples: Samples, t: Tensor) -> Tensor:
    predicted = denoiser(denoiser.process.add_noise(samples.x0, t, samples.noise), t, samples.labels).x0
    return (samples.x0 - predicted).double().square().flatten(1).sum(1).mean()
