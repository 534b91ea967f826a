"""Closed forms of the ELBO's ends and its unit: prior, decoder, bits/dim. Nats per example, float64."""

import math

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process

FAR_TAIL = -35.0  # Φ underflows in float64 not far below this


def bits_per_dim(nats: Tensor | float, dimensions: int) -> Tensor | float:
    """Nats per example → bits per dimension, nats / (D ln 2)."""
    return nats / (dimensions * math.log(2))


def prior_nats(process: Process, x0: Tensor) -> Tensor:
    """KL(q(x_1 | x_0) ‖ p(x_1)) per image, float64 [B], for images [B, …].

    p(x_1) is N(0, I) for a variance-preserving process and N(0, σ_T² I) for one with α = 1.
    """
    end = process.grid[-1]
    alpha_t, variance_t = process.alpha(end), process.sigma(end).square()
    prior_variance = torch.ones_like(variance_t) if process.variance_preserving else variance_t
    ratio = variance_t / prior_variance
    x0 = x0.to(torch.float64).flatten(1)
    constant = 0.5 * x0.shape[1] * (ratio - 1 - ratio.log())
    return constant.to(x0.device) + 0.5 * (alpha_t.square() / prior_variance).to(x0.device) * x0.square().sum(1)


def discretised_gaussian_nats(x0: Tensor, mean: Tensor, variance: Tensor, levels: int) -> Tensor:
    """−log P(x_0) per image, float64 [B], of a Gaussian discretised over grey levels (Ho et al. 2020, eq. 13).

    The bin of a level reaches half the distance to its neighbours; the outermost bins reach to ±∞. Φ is exact.

    Args:
        x0: images [B, …] whose values are levels in [-1, 1].
        mean: the Gaussian's mean, of x0's shape.
        variance: its variance, a scalar or broadcastable to x0.
        levels: number of grey levels.
    """
    x0, mean = x0.to(torch.float64), mean.to(torch.float64)
    deviation = variance.to(device=x0.device, dtype=torch.float64).sqrt()
    half_width = 1 / (levels - 1)
    lower = torch.where(x0 < -1 + half_width, -math.inf, (x0 - half_width - mean) / deviation)
    upper = torch.where(x0 > 1 - half_width, math.inf, (x0 + half_width - mean) / deviation)
    # In the upper tail both Φ are near 1: use the mirrored bin there.
    mirrored = lower > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    probability = 0.5 * (torch.erfc(-math.sqrt(0.5) * upper) - torch.erfc(-math.sqrt(0.5) * lower))
    far = upper < FAR_TAIL
    if not bool(far.any()):
        return -torch.log(probability).flatten(1).sum(1)
    near = torch.log(torch.where(far, 1.0, probability))
    beyond = _log_difference_of_normals(torch.where(far, lower, -1.0), torch.where(far, upper, 1.0))
    return -torch.where(far, beyond, near).flatten(1).sum(1)


def tanh_discretised_gaussian_nats(x0: Tensor, mean: Tensor, log_variance: Tensor, levels: int) -> Tensor:
    """`discretised_gaussian_nats` as improved-diffusion computes it, in the dtype of x0; sums are float64.

    Φ(u) ≈ ½ (1 + tanh(√(2/π) (u + 0.044715 u³))), off by up to 1.8e-4, and probabilities are at least 1e-12. In
    float32, which that code takes, Φ near 1 moves in steps of 6e-8: what is left of a small difference there
    depends on the order of operations, which is that code's too.

    Args:
        x0: images [B, …] whose values are levels in [-1, 1].
        mean: the Gaussian's mean, of x0's shape and dtype.
        log_variance: log of its variance, a scalar or broadcastable to x0.
        levels: number of grey levels.
    """
    inverse_deviation = torch.exp(-0.5 * log_variance.to(device=x0.device, dtype=x0.dtype))
    centred, half_width = x0 - mean, 1 / (levels - 1)

    def cdf(u: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))

    upper = cdf(inverse_deviation * (centred + half_width))
    lower = cdf(inverse_deviation * (centred - half_width))
    probability = torch.where(x0 < -0.999, upper, torch.where(x0 > 0.999, 1 - lower, upper - lower))
    return -torch.log(probability.clamp(min=1e-12)).flatten(1).sum(1, dtype=torch.float64)


def _log_difference_of_normals(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Φ(upper) − Φ(lower)) where neither need be representable; several times slower than erfc."""
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return log_upper + torch.log(-torch.expm1(log_lower - log_upper))


def check_images(images: Tensor, levels: int, source: str) -> None:
    """Raise a UserError unless `images` are float [B, C, H, W], not empty, in [-1, 1], on `levels` grey levels."""
    if not isinstance(images, Tensor):
        raise UserError(
            f"The images of {source} must be a float tensor [B, C, H, W], not a {type(images).__name__}."
        )
    if not isinstance(levels, int) or levels < 2:
        raise UserError(f"Images need a whole number of grey levels, at least 2; given was {levels!r}.")
    if images.ndim != 4 or not images.is_floating_point():
        raise UserError(
            f"The images of {source} must be a float tensor [B, C, H, W]; given was {images.dtype} "
            f"{list(images.shape)}."
        )
    if images.numel() == 0:
        raise UserError(f"{source} holds no images.")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1 - 1e-6 and high <= 1 + 1e-6):  # also catches NaN
        raise UserError(
            f"The images of {source} must lie in [-1, 1]; their values run from {low:.4g} to {high:.4g}."
        )
    position = (images.double() + 1) / 2 * (levels - 1)
    if (position - position.round()).abs().max().item() > 1e-3:
        raise UserError(
            f"The images of {source} do not lie on {levels} grey levels in [-1, 1]; state their levels."
        )
