"""What the learned variance's KL needs of a network, per image: every s from one call at t.

With f the variance fraction of a pixel, r its error x_0 − x̂_0 and Δ = log σ_t²/σ_s² (derived in docs/elbo.md),

    KL(s, t) = ½ [Δ² P(Δ) + (SNR(s) − SNR(t)) H(Δ)],
    P(Δ) = Σ (fΔ − 1 + e^{−fΔ})/Δ² = Σ f² ∫_0^1 (1 − u) e^{−ufΔ} du,    H(Δ) = Σ r² e^{−fΔ},

sums over the pixels. Both are mixtures, with positive weights, of exponentials e^{−aΔ} whose rates a lie between 0
and the extremes of f. Multiplied by e^{cΔ}, c the midpoint of these rates, they are interpolated in Δ at so many
points that each is right to a relative `BOUND`; then so is their sum, the KL.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.chebyshev import coefficients, evaluate, points, points_for_exponentials
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.pair_decoder import at_once

BOUND = 1e-6  # relative, of every KL


@dataclass(frozen=True, kw_only=True)
class FractionSums:
    """e^{cΔ} P and e^{cΔ} H of N timesteps as Chebyshev coefficients in Δ ∈ [0, log σ_t²/σ²(t_1)], float64.

    Attributes:
        centre: c [N].
        coefficients: [N, n, 2, images]; zeros beyond a timestep's own number of points.
        mean: their mean over images [N, n, 2].
    """

    centre: Tensor
    coefficients: Tensor
    mean: Tensor

    def step_nats(self, process: Process, s: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        """KL(s, t) of every image for steps [k], nats, [k, images]; `rows` [k] are the timesteps' positions."""
        of_rows = self.coefficients[rows].permute(1, 2, 0, 3)
        return _nats(process, s[:, None], t[:, None], self.centre[rows][:, None], of_rows)

    def mean_step_nats(self, process: Process, s: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        """The mean of KL(s, t) over images, [S, k], for s [S, 1], t [1, k] and the positions `rows` [k] of t."""
        return _nats(process, s, t, self.centre[rows], self.mean[rows].permute(1, 2, 0))

    def mean_weights(self, process: Process, s: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        """The mean over images of ½ (SNR(s) − SNR(t)) H(Δ), the error's share of the KL, for steps [k]; [k]."""
        a = self.mean[rows].permute(1, 2, 0).clone()
        a[:, 0] = 0
        return _nats(process, s, t, self.centre[rows], a)


def _nats(process: Process, s: Tensor, t: Tensor, centre: Tensor, a: Tensor) -> Tensor:
    """½ e^{−cΔ} [Δ² · e^{cΔ}P + (SNR(s) − SNR(t)) · e^{cΔ}H] for coefficients a [n, 2, …]."""
    log_variance_t = process.log_variance(t)
    delta = log_variance_t - process.log_variance(s)
    x = (2 * delta / _length(process, log_variance_t) - 1).clamp(-1, 1)
    P, H = evaluate(a[:, 0], x), evaluate(a[:, 1], x)
    return 0.5 * torch.exp(-centre * delta) * (delta.square() * P + process.snr_gained(s, t) * H)


def _length(process: Process, log_variance_t: Tensor) -> Tensor:
    """The largest Δ at a time; 1 at t_1, which no KL begins at."""
    length = log_variance_t - process.log_variance(process.grid[1])
    return torch.where(length > 0, length, 1.0)


def measure_fraction_sums(process: Process, t: Tensor, residual: Tensor, fraction: Tensor) -> tuple[float, Tensor]:
    """c, and the coefficients [n, 2, images] at one timestep.

    Args:
        process: the forward process.
        t: the time, a scalar.
        residual: x_0 − x̂_0, float64 [images, D].
        fraction: f, float64 [images, D].

    Raises:
        UserError: the fractions spread so far that no table of fewer points than `MOST_POINTS` holds them.
    """
    low, high = fraction.min().item(), fraction.max().item()
    if not math.isfinite(low + high):
        return math.nan, residual.new_full((1, 2, len(residual)), math.nan)  # told by whoever collects
    # Outward to quarters, so that images measured apart mostly share their points.
    low, high = min(0.0, math.floor(4 * low) / 4), max(0.25, math.ceil(4 * high) / 4)
    length = _length(process, process.log_variance(t)).item()
    try:
        n = points_for_exponentials((high - low) / 2, length, BOUND)
    except ValueError:
        raise UserError(
            f"The network's variance fraction runs from {low} to {high} at time {t.item():.4g}, far from [0, 1]; "
            "its variance head is not trained."
        ) from None
    centre, delta = (low + high) / 2, ((points(n) + 1) / 2 * length).to(residual.device)
    squared = residual.square()
    first_order, of_squares = [], []
    for some in delta.split(at_once(residual)):
        decay = torch.expm1(-some[:, None, None] * fraction)  # [≤ n, images, D]
        first_order.append(decay.sum(2))
        of_squares.append((decay * squared).sum(2))
    P = (torch.cat(first_order) + delta[:, None] * fraction.sum(1)) / delta[:, None].square()
    P[0] = 0.5 * fraction.square().sum(1)
    H = torch.cat(of_squares) + squared.sum(1)
    values = torch.exp(centre * delta)[:, None, None] * torch.stack([P, H], dim=1)
    return centre, coefficients(values)


def collect_fraction_sums(measured: list[tuple[float, Tensor]]) -> FractionSums:
    """The sums of all timesteps from what `measure_fraction_sums` returned for each."""
    n = max(len(a) for _, a in measured)
    padded = torch.stack([torch.nn.functional.pad(a, (0, 0, 0, 0, 0, n - len(a))) for _, a in measured])
    centre = torch.tensor([c for c, _ in measured], dtype=torch.float64)
    return FractionSums(centre=centre, coefficients=padded, mean=padded.mean(3))
