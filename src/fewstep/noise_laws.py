"""The published noise laws: log-SNR at the T timesteps of a grid, log α²/σ², float64 [T], strictly descending."""

import math

import torch
from torch import Tensor

from fewstep.errors import UserError

BETA_MAX = 0.999  # Nichol & Dhariwal 2021: β of the cosine process is clipped here
COSINE_OFFSET = 0.008  # Nichol & Dhariwal 2021, eq. 17
MOST_TIMESTEPS = 1_000_000  # a table of costs holds T² numbers, so that far fewer are of use


def linear(T: int, smallest_noise_level: float | None) -> Tensor:
    """β rises linearly from 1e-4 to 0.02, scaled by 1000/T (Ho et al. 2020).

    Raises:
        UserError: T or the noise level is not one that the law exists for.
    """
    _check_grid_size(T)
    beta_first, beta_last = 1e-4 * 1000 / T, 0.02 * 1000 / T
    if beta_last >= 1:
        raise UserError(f"The linear process does not exist for T = {T}: its β reaches 1; T must be above 20.")
    if smallest_noise_level is not None:
        variance_ratio = _check_noise_level(smallest_noise_level) ** 2
        beta_first = variance_ratio / (1 + variance_ratio)
        if beta_first >= beta_last:
            raise UserError(
                f"A smallest noise level of {smallest_noise_level} starts the linear process at β = "
                f"{beta_first:.3g}, which must lie below its last β, {beta_last:.3g}."
            )
    return _log_snr_of_betas(torch.linspace(beta_first, beta_last, T, dtype=torch.float64))


def cosine(T: int, smallest_noise_level: float | None) -> Tensor:
    """σ/α is the tangent of an angle that grows evenly; β is clipped at 0.999 (Nichol & Dhariwal 2021).

    Raises:
        UserError: T or the noise level is not one that the law exists for.
    """
    _check_grid_size(T)
    if smallest_noise_level is None:
        n = torch.arange(T + 1, dtype=torch.float64)
        alpha_bar = torch.cos((n / T + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).square()
    else:
        first = math.atan(_check_noise_level(smallest_noise_level))
        if math.sin(first) ** 2 > BETA_MAX:
            raise UserError(
                f"The cosine process cannot start at the noise level {smallest_noise_level}: its β is clipped "
                f"at {BETA_MAX}, so the level must be at most {math.sqrt(BETA_MAX / (1 - BETA_MAX)):.4g}."
            )
        angle = torch.linspace(first, math.pi / 2, T, dtype=torch.float64)
        alpha_bar = torch.cat([angle.new_ones(1), torch.cos(angle).square()])
    return _log_snr_of_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=BETA_MAX))


def edm(T: int, sigma_min: float, sigma_max: float) -> Tensor:
    """α = 1 and σ log-uniform from sigma_min to sigma_max (Karras et al. 2022).

    Raises:
        UserError: T or the ends are not ones that the law exists for.
    """
    _check_grid_size(T)
    if not 0 < sigma_min < sigma_max < math.inf:
        raise UserError(
            f"The edm process needs 0 < sigma_min < sigma_max, both finite; given were {sigma_min} and "
            f"{sigma_max}."
        )
    return -2 * torch.linspace(math.log(sigma_min), math.log(sigma_max), T, dtype=torch.float64)


def _check_grid_size(T: int) -> None:
    if isinstance(T, bool) or not isinstance(T, int) or not 2 <= T <= MOST_TIMESTEPS:
        raise UserError(
            f"A process needs a whole number T of at least 2 timesteps, and at most {MOST_TIMESTEPS:,}; "
            f"given was {T!r}."
        )


def _check_noise_level(noise_level: float) -> float:
    if not 0 < noise_level < math.inf:
        raise UserError(f"The smallest noise level σ/α must be positive and finite; given was {noise_level!r}.")
    return float(noise_level)


def _log_snr_of_betas(beta: Tensor) -> Tensor:
    """log ᾱ/(1 − ᾱ) with ᾱ = Π(1 − β), without cancellation where ᾱ is near 1."""
    log_alpha_bar = torch.log1p(-beta).cumsum(0)
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))
