"""The variance kinds of p(x_s | x_t): which σ_p² the reverse step (s, t) is given.

A new kind is one more class here with the same two methods; solver and objective take any of them.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process, over_images


class Variance(ABC):
    """σ_p² of a reverse step, and the variance with which the additive decoder reads x̂_0.

    Both are scalars per step, but for kinds that read the network's variance fraction, [B, C, H, W] and one per
    pixel; the others do not look at it.
    """

    name: str

    @abstractmethod
    def log_ratio(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        """log σ_p²/σ̃² of the steps (s, t), 0 < s < t, float64, of the shape that s and t broadcast to."""

    @abstractmethod
    def decoder(self, process: Process, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        """The variance of x_0 around x̂_0(x_t) in the last step (0, t); a function of t alone."""

    def step(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        """σ_p² of the steps (s, t), 0 < s < t, float64, of the shape of `log_ratio`."""
        ratio = torch.exp(self.log_ratio(process, s, t, fraction))
        posterior_variance = process.transition(s, t).posterior_variance
        return ratio * (posterior_variance if fraction is None else over_images(posterior_variance, ratio))


def additive_decoder(process: Process, t: Tensor) -> Tensor:
    """σ²_{t|0}, but σ̃²(1, 2) of the grid at t_1, where Ho et al. 2020 clip it."""
    t = torch.as_tensor(t, dtype=torch.float64)
    first, second = process.grid[1].to(t.device), process.grid[2].to(t.device)
    clipped = process.transition(first, second).posterior_variance
    return torch.where((t * process.T - 1).abs() < 1e-6, clipped, process.sigma(t).square())


class PosteriorVariance(Variance):
    """`posterior`: σ_p² = σ̃², the variance of q(x_s | x_t, x_0) (Ho et al. 2020)."""

    name = "posterior"

    def log_ratio(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return torch.zeros(torch.broadcast_shapes(s.shape, t.shape), dtype=torch.float64, device=t.device)

    def decoder(self, process: Process, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return additive_decoder(process, t)


class BetaVariance(Variance):
    """`beta`: σ_p² = σ²_{t|s}, the forward step's own variance (Ho et al. 2020); σ_p²/σ̃² = σ_t²/σ_s²."""

    name = "beta"

    def log_ratio(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return process.log_variance(t) - process.log_variance(s)

    def decoder(self, process: Process, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return additive_decoder(process, t)


class OptimalVariance(Variance):
    """`optimal`: σ_p² = σ̃² + c² e(t)/D, the best scalar variance for the network's own mean.

    It sets the derivative of KL(q ‖ p) in σ_p² to zero; Analytic-DPM (Bao et al. 2022) estimates the same from
    the score norm, which agrees only for an exact network. σ_p²/σ̃² = 1 + (SNR(s) − SNR(t)) e(t)/D.

    Args:
        times: float64 [N], ascending times at which the denoising error is known.
        error_per_dimension: float64 [N], e(t)/D there, from the training split.
    """

    name = "optimal"

    def __init__(self, times: Tensor, error_per_dimension: Tensor) -> None:
        self.times = times
        self.error_per_dimension = error_per_dimension

    def error(self, t: Tensor, process: Process | None = None) -> Tensor:
        """e(t)/D at known times and, given the process, between known neighbours on its grid, where it is linear.

        Raises:
            UserError: the statistics do not hold a time that was asked for, or the neighbours of one.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        times, errors = self.times.to(t.device), self.error_per_dimension.to(t.device)
        above = torch.searchsorted(times, (t.detach() - 1e-9).contiguous()).clamp(max=len(times) - 1)
        known = (times[above] - t).abs() < 1e-8
        if process is None:
            self._require(known, t)
            return errors[above]
        below = (above - 1).clamp(min=0)
        width = times[above] - times[below]
        self._require(known | ((times[below] < t) & (t < times[above]) & (width < 1.5 / process.T)), t)
        past = torch.where(width > 0, (t - times[above]) / width.clamp(min=1e-12), 0.0)
        past = torch.where(known, past - past.detach(), past)  # at a known time the value itself, with its slope
        return errors[above] + past * (errors[above] - errors[below])

    def _require(self, known: Tensor, t: Tensor) -> None:
        if not bool(known.all()):
            missing = t[~known].flatten()[0].item()
            raise UserError(f"The optimal variance was not fitted at time {missing:.6g}; fit it there first.")

    def log_ratio(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return torch.log1p(process.snr_gained(s, t) * self.error(t, process))

    def decoder(self, process: Process, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        return self.error(t, process)


class LearnedVariance(Variance):
    """`learned`: σ_p² = exp(f log σ²_{t|s} + (1 − f) log σ̃²), f per pixel (Nichol & Dhariwal 2021, eq. 15).

    σ_p²/σ̃² = (σ_t²/σ_s²)^f. The network's f is not held within [0, 1]. The additive decoder interpolates between
    the variances with which `posterior` reads x̂_0 and σ²_{t|0}; they differ at the grid's first timestep alone.
    """

    name = "learned"

    def log_ratio(self, process: Process, s: Tensor, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        fraction = _required(fraction)
        return fraction * over_images(process.log_variance(t) - process.log_variance(s), fraction)

    def decoder(self, process: Process, t: Tensor, fraction: Tensor | None = None) -> Tensor:
        fraction = _required(fraction)
        return variance_between(additive_decoder(process, t).log(), process.log_variance(t), fraction)


def variance_between(low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    """exp(f · high + (1 − f) · low) of log-variances that are scalars or [B], and f [B, C, H, W]."""
    return torch.exp(log_variance_between(low, high, fraction))


def log_variance_between(low: Tensor, high: Tensor, fraction: Tensor) -> Tensor:
    """Its logarithm, in the dtype of f and with the operations in improved-diffusion's order."""
    return fraction * over_images(high, fraction) + (1 - fraction) * over_images(low, fraction)


def no_variance_head() -> UserError:
    """What to tell who asks for `learned` of a network that has learned none."""
    return UserError(
        "The variance kind 'learned' needs a network with a variance head, such as "
        "model=unet_digits_learned; this one has none. Allowed without one are posterior, beta, optimal."
    )


def _required(fraction: Tensor | None) -> Tensor:
    if fraction is None:
        raise no_variance_head()
    return fraction.to(torch.float64)


VARIANCES = ("posterior", "beta", "optimal", "learned")


def make_variance(name: str, times: Tensor | None = None, error_per_dimension: Tensor | None = None) -> Variance:
    """The variance kind called `name`; `optimal` needs the training error as `OptimalVariance` does.

    Raises:
        UserError: there is no such kind, or `optimal` is asked for without its fit.
    """
    kinds = {kind.name: kind for kind in (PosteriorVariance, BetaVariance, LearnedVariance)}
    if name in kinds:
        return kinds[name]()
    if name != "optimal":
        raise UserError(f"There is no variance kind {name!r}; allowed are {', '.join(VARIANCES)}.")
    if times is None or error_per_dimension is None:
        raise UserError(
            "The variance kind 'optimal' needs statistics that it is fitted on; fit the solver to them."
        )
    return OptimalVariance(times, error_per_dimension)
