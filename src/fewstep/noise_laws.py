"""The published noise laws: log-SNR at the T timesteps of a grid, log α²/σ², float64 [T], strictly descending.

With zero terminal SNR the last one is −∞: √ᾱ is shifted and scaled so that it ends at 0 and starts where it did
(Lin et al. 2024, arXiv 2305.08891, algorithm 1; diffusers' `rescale_betas_zero_snr`).
"""

import math

import torch
from torch import Tensor

from fewstep.errors import UserError

BETA_MAX = 0.999  # Nichol & Dhariwal 2021: β of the cosine process is clipped here
COSINE_OFFSET = 0.008  # Nichol & Dhariwal 2021, eq. 17
MOST_TIMESTEPS = 1_000_000  # a table of costs holds T² numbers, so that far fewer are of use


def published_linear_betas(T: int) -> tuple[float, float]:
    """The first and the last β of the linear law, 1e-4 and 0.02 times 1000/T (Ho et al. 2020)."""
    return 1e-4 * 1000 / T, 0.02 * 1000 / T


def linear(
    T: int,
    smallest_noise_level: float | None,
    beta_first: float | None = None,
    beta_last: float | None = None,
    zero_terminal_snr: bool = False,
) -> Tensor:
    """β rises linearly; from 1e-4 to 0.02, scaled by 1000/T, where it is not given (Ho et al. 2020).

    Raises:
        UserError: T, the noise level or the ends are not ones that the law exists for.
    """
    _check_grid_size(T)
    published = published_linear_betas(T)
    if beta_last is None and published[1] >= 1:
        raise UserError(f"The linear process does not exist for T = {T}: its β reaches 1; T must be above 20.")
    ends = _beta_ends("linear", smallest_noise_level, beta_first, beta_last, published)
    return _log_snr_of_betas(torch.linspace(*ends, T, dtype=torch.float64), zero_terminal_snr)


def scaled_linear(
    T: int,
    smallest_noise_level: float | None,
    beta_first: float,
    beta_last: float,
    zero_terminal_snr: bool = False,
) -> Tensor:
    """√β rises linearly (Rombach et al. 2022, latent diffusion; Stable Diffusion).

    Raises:
        UserError: T, the noise level or the ends are not ones that the law exists for.
    """
    _check_grid_size(T)
    first, last = _beta_ends("scaled_linear", smallest_noise_level, None, None, (beta_first, beta_last))
    roots = torch.linspace(math.sqrt(first), math.sqrt(last), T, dtype=torch.float64)
    return _log_snr_of_betas(roots.square(), zero_terminal_snr)


def cosine(T: int, smallest_noise_level: float | None, zero_terminal_snr: bool = False) -> Tensor:
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
    return _log_snr_of_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=BETA_MAX), zero_terminal_snr)


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


def _beta_ends(
    name: str,
    smallest_noise_level: float | None,
    beta_first: float | None,
    beta_last: float | None,
    published: tuple[float, float],
) -> tuple[float, float]:
    """The first and the last β: as given, the first by the noise level σ/α at t_1, or else as published."""
    first = published[0] if beta_first is None else beta_first
    last = published[1] if beta_last is None else beta_last
    if not 0 < first < last < 1:  # catches NaN too
        raise UserError(f"The {name} process needs 0 < first β < last β < 1; given were {first!r} and {last!r}.")
    if smallest_noise_level is None:
        return first, last
    if beta_first is not None:
        raise UserError(
            f"The {name} process starts at a first β, {beta_first}, or at a smallest noise level, "
            f"{smallest_noise_level}: give one of the two."
        )
    variance_ratio = _check_noise_level(smallest_noise_level) ** 2
    first = variance_ratio / (1 + variance_ratio)
    if first >= last:
        raise UserError(
            f"A smallest noise level of {smallest_noise_level} starts the {name} process at β = {first:.3g}, "
            f"which must lie below its last β, {last:.3g}."
        )
    return first, last


def _log_snr_of_betas(beta: Tensor, zero_terminal_snr: bool = False) -> Tensor:
    """log ᾱ/(1 − ᾱ) with ᾱ = Π(1 − β), without cancellation where ᾱ is near 1."""
    log_alpha_bar = torch.log1p(-beta).cumsum(0)
    if zero_terminal_snr:
        log_alpha_bar = _ending_in_zero(log_alpha_bar)
    return log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))


def _ending_in_zero(log_alpha_bar: Tensor) -> Tensor:
    """log ᾱ' with √ᾱ' = √ᾱ_1 (√ᾱ − √ᾱ_T)/(√ᾱ_1 − √ᾱ_T), in logarithms, so that the start keeps its digits."""
    half = log_alpha_bar / 2
    # (√ᾱ_1 − √ᾱ)/(√ᾱ_1 − √ᾱ_T), how much of the way from the start to the end lies behind.
    share = torch.expm1(half - half[0]) / torch.expm1(half[-1] - half[0])
    return 2 * (half[0] + torch.log1p(-share))
