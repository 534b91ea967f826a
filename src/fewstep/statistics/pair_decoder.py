"""The decoder's term where it depends on the schedule's first two nodes, as in improved-diffusion.

There x̂_0 is read with the posterior variance of the *second* node's step: log-variance λ = log σ̃²(n_1, n_2),
or per pixel f log σ²_{n_1|0} + (1 − f) λ where it was learned. So for each n_1 the term is a function of the
scalar λ, and interpolation in λ serves every n_2 without another evaluation of T²/2 decoders.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.chebyshev import MOST_POINTS, coefficients, evaluate, points
from fewstep.process import Process
from fewstep.variance import LearnedVariance

BOUND = 1e-6  # relative, of the term
BYTES = 2**26  # of images in float64, repeated for some of a polynomial's points at a time


@dataclass(frozen=True, kw_only=True)
class PairDecoder:
    """−log p(x_0 | x_t) of N timesteps n_1 as Chebyshev coefficients in λ, nats, float64.

    Attributes:
        of_process: under `posterior` and `beta`, [N, n, images]; zeros beyond a timestep's own number of points.
        of_fraction: under `learned`; None where the network has no variance head.
    """

    of_process: Tensor
    of_fraction: Tensor | None

    def image_nats(self, kind: str, process: Process, row: int, first: int, second: int) -> Tensor:
        """The term of every image, [images], for n_1 = `first`, at position `row`, and n_2 = `second`."""
        x = _argument(process, torch.tensor(first), torch.tensor(second))
        return evaluate(self._coefficients(kind)[row], x)

    def mean_nats(self, kind: str, process: Process, rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """The mean over images for n_1 = `first` [S], at positions `rows`, and n_2 = `second` [k]; [S, k]."""
        a = self._coefficients(kind)[rows].mean(2)
        return evaluate(a.T[:, :, None], _argument(process, first[:, None], second[None]))

    def _coefficients(self, kind: str) -> Tensor:
        if kind != LearnedVariance.name:
            return self.of_process
        assert self.of_fraction is not None  # whoever asks has asked for the fraction's sums before
        return self.of_fraction


def _argument(process: Process, first: Tensor, second: Tensor) -> Tensor:
    """λ(n_1, n_2) mapped from its range at n_1 to [−1, 1]."""
    low, high = ends(process, first)
    log_variance = log_posterior_variance(process, first, second)
    return ((2 * log_variance - low - high) / (high - low).clamp(min=1e-300)).nan_to_num(0.0).clamp(-1, 1)


def log_posterior_variance(process: Process, first: Tensor, second: Tensor) -> Tensor:
    """λ = log σ̃²(n_1, n_2) for grid indices n_1 < n_2."""
    return process.transition(process.grid[first], process.grid[second]).posterior_variance.log()


def ends(process: Process, first: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest λ over n_2 = n_1 + 1 … T; for n_1 = T, which has no pair, both are log σ_T²."""
    process_end = torch.full_like(first, process.T)
    has_pair = first < process.T
    clipped = torch.where(has_pair, first, process.T - 1)
    low = log_posterior_variance(process, clipped, clipped + 1)
    high = log_posterior_variance(process, clipped, process_end)
    end = process.log_variance(process.grid[-1])
    return torch.where(has_pair, low, end), torch.where(has_pair, high, end)


def at_once(images: Tensor) -> int:
    """For how many points at a time images are repeated, so that memory does not depend on the points' number."""
    return max(1, BYTES // (8 * images.numel()))


def interpolate(nats: Callable[[Tensor], Tensor], low: float, high: float, most: int = 2 * MOST_POINTS) -> Tensor:
    """Chebyshev coefficients [n, images] of `nats` (λ [m] → [m, images], m ≤ `most`) on [low, high].

    The number of points is doubled, old points kept, until the polynomial through the old ones predicts the new
    ones to a relative `BOUND`; the finer polynomial is returned. Where `MOST_POINTS` do not get there, it is the
    finest.
    """
    if high - low < 1e-12:
        return nats(torch.tensor([low], dtype=torch.float64))

    def at(x: Tensor) -> Tensor:
        return torch.cat([nats(low + (part + 1) / 2 * (high - low)) for part in x.split(most)])

    x = points(9)
    values = at(x)
    while True:
        a, finer = coefficients(values), points(2 * len(x) - 1)
        between = at(finer[1::2])
        predicted = evaluate(a[:, None], finer[1::2, None].to(a.device))
        merged = values.new_empty((len(finer), *values.shape[1:]))
        merged[::2], merged[1::2] = values, between
        close = ((predicted - between).abs() <= BOUND * between.abs()).all()
        if bool(close) or 2 * len(finer) - 1 > MOST_POINTS:
            return coefficients(merged)
        x, values = finer, merged


def collect_pair_decoder(measured: list[tuple[Tensor, Tensor | None]]) -> PairDecoder:
    """The decoder of all timesteps from the coefficients of each, [n, images]."""

    def stacked(parts: list[Tensor]) -> Tensor:
        n = max(len(a) for a in parts)
        return torch.stack([torch.nn.functional.pad(a, (0, 0, 0, n - len(a))) for a in parts])

    of_fraction = [a for _, a in measured if a is not None]
    return PairDecoder(
        of_process=stacked([a for a, _ in measured]),
        of_fraction=stacked(of_fraction) if of_fraction else None,
    )
