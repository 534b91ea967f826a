"""The variance kinds of p(x_s | x_t): which scalar σ_p² the reverse step (s, t) is given.

A new kind is one more class here with the same two methods; solver and objective take any of them.
"""

from typing import Protocol

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process


class Variance(Protocol):
    """σ_p² of a reverse step, and the variance with which the additive decoder reads x̂_0."""

    name: str

    def step(self, process: Process, s: Tensor, t: Tensor) -> Tensor:
        """σ_p² of the steps (s, t), 0 < s < t, float64, of the shape that s and t broadcast to."""
        ...

    def decoder(self, process: Process, t: Tensor) -> Tensor:
        """The variance of x_0 around x̂_0(x_t) in the last step (0, t); a function of t alone."""
        ...


def _additive_decoder(process: Process, t: Tensor) -> Tensor:
    """σ²_{t|0}, but σ̃²(1, 2) of the grid at t_1, where Ho et al. 2020 clip it."""
    t = torch.as_tensor(t, dtype=torch.float64)
    first, second = process.grid[1].to(t.device), process.grid[2].to(t.device)
    clipped = process.transition(first, second).posterior_variance
    return torch.where((t * process.T - 1).abs() < 1e-6, clipped, process.sigma(t).square())


class PosteriorVariance:
    """`posterior`: σ_p² = σ̃², the variance of q(x_s | x_t, x_0) (Ho et al. 2020)."""

    name = "posterior"

    def step(self, process: Process, s: Tensor, t: Tensor) -> Tensor:
        return process.transition(s, t).posterior_variance

    def decoder(self, process: Process, t: Tensor) -> Tensor:
        return _additive_decoder(process, t)


class BetaVariance:
    """`beta`: σ_p² = σ²_{t|s}, the forward step's own variance (Ho et al. 2020)."""

    name = "beta"

    def step(self, process: Process, s: Tensor, t: Tensor) -> Tensor:
        return process.transition(s, t).variance

    def decoder(self, process: Process, t: Tensor) -> Tensor:
        return _additive_decoder(process, t)


class OptimalVariance:
    """`optimal`: σ_p² = σ̃² + c² e(t)/D, the best scalar variance for the network's own mean.

    It sets the derivative of KL(q ‖ p) in σ_p² to zero; Analytic-DPM (Bao et al. 2022) estimates the same from
    the score norm, which agrees only for an exact network.

    Args:
        times: float64 [N], ascending times at which the denoising error is known.
        error_per_dimension: float64 [N], e(t)/D there, from the training split.
    """

    name = "optimal"

    def __init__(self, times: Tensor, error_per_dimension: Tensor) -> None:
        self.times = times
        self.error_per_dimension = error_per_dimension

    def error(self, t: Tensor) -> Tensor:
        """e(t)/D at known times.

        Raises:
            UserError: the statistics do not hold a time that was asked for.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        times = self.times.to(t.device)
        index = torch.searchsorted(times, (t - 1e-9).contiguous()).clamp(max=len(times) - 1)
        if not bool(((times[index] - t).abs() < 1e-8).all()):
            missing = t[(times[index] - t).abs() >= 1e-8].flatten()[0].item()
            raise UserError(f"The optimal variance was not fitted at time {missing:.6g}; fit it there first.")
        return self.error_per_dimension.to(t.device)[index]

    def step(self, process: Process, s: Tensor, t: Tensor) -> Tensor:
        transition = process.transition(s, t)
        return transition.posterior_variance + transition.x0_coefficient.square() * self.error(t)

    def decoder(self, process: Process, t: Tensor) -> Tensor:
        return self.error(t)


VARIANCES = ("posterior", "beta", "optimal")


def make_variance(name: str, times: Tensor | None = None, error_per_dimension: Tensor | None = None) -> Variance:
    """The variance kind called `name`; `optimal` needs the training error as `OptimalVariance` does.

    Raises:
        UserError: there is no such kind, or `optimal` is asked for without its fit.
    """
    if name == "posterior":
        return PosteriorVariance()
    if name == "beta":
        return BetaVariance()
    if name != "optimal":
        raise UserError(f"There is no variance kind {name!r}; allowed are {', '.join(VARIANCES)}.")
    if times is None or error_per_dimension is None:
        raise UserError(
            "The variance kind 'optimal' needs statistics that it is fitted on; fit the solver to them."
        )
    return OptimalVariance(times, error_per_dimension)
