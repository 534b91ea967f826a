"""The forward noising process: x_t = α(t) x_0 + σ(t) ε, with t in [0, 1], 0 = data, 1 = noise.

A process is its log-SNR on a grid, log α²/σ², float64, and everything else follows from that one curve.
Steps of the reverse process are written (s, t) with s < t and go from t to s.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep import noise_laws
from fewstep.errors import UserError
from fewstep.log_snr_curve import LogSnrCurve

EDM_SIGMA_MIN = 0.002  # Karras et al. 2022


@dataclass(frozen=True)
class Transition:
    """q(x_s | x_t, x_0) = N(x0_coefficient x_0 + xt_coefficient x_t, posterior_variance I) for steps (s, t).

    Watson et al. 2021; Ho et al. 2020, eq. 7 for neighbours. All float64 and of the shape that s and t
    broadcast to.

    Attributes:
        variance: σ²_{t|s} = σ_t² − α²_{t|s} σ_s², the noise that the forward process adds from s to t.
        posterior_variance: σ̃² = σ²_{t|s} σ_s² / σ_t².
        x0_coefficient: c = α_s σ²_{t|s} / σ_t².
        xt_coefficient: α_{t|s} σ_s² / σ_t².
    """

    variance: Tensor
    posterior_variance: Tensor
    x0_coefficient: Tensor
    xt_coefficient: Tensor


class Process:
    """A forward process on a grid t_n = n/T, n = 0 … T; between t_1 and t_T its log-SNR is interpolated.

    Build one with `Process.linear`, `Process.scaled_linear`, `Process.cosine` or `Process.edm`.

    With zero terminal SNR x_1 is pure noise: at t_T, and there alone, log-SNR is −∞, α = 0 and σ/α = ∞. Nothing
    can be interpolated over its last cell then, so that no time lies between t_{T−1} and t_T.

    Attributes:
        grid: float64 [T+1], t_0 = 0 (clean data) … t_T = 1.
        T: the number of training timesteps.
        variance_preserving: α² + σ² = 1 where true, α = 1 where false.
        zero_terminal_snr: whether α = 0 at t_T.
        definition: name and arguments; `Process.from_definition` rebuilds the process from it.
    """

    def __init__(self, log_snr_grid: Tensor, variance_preserving: bool, definition: dict[str, Any]) -> None:
        """`log_snr_grid`: float64 [T], the log-SNR at t_1 … t_T, strictly descending and finite, or −∞ at t_T."""
        name = definition["name"]
        self.zero_terminal_snr = variance_preserving and log_snr_grid[-1].item() == -math.inf
        finite = log_snr_grid[:-1] if self.zero_terminal_snr else log_snr_grid
        if not bool(torch.isfinite(finite).all()):
            raise UserError(
                f"The noise level of the process {name} must be positive and finite from t_1 to its end, T: "
                f"{definition}."
            )
        if len(finite) < 2:
            raise UserError(f"A process with zero terminal SNR needs at least 3 timesteps: {definition}.")
        if not bool((log_snr_grid.diff() < 0).all()):
            raise UserError(
                f"The process {name} does not lose signal at every timestep of its grid: {definition}."
            )
        self.T = len(log_snr_grid)
        self.grid = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        self.variance_preserving = variance_preserving
        self.definition = definition
        self._curve = LogSnrCurve(log_snr_grid, repr(self))

    @classmethod
    def linear(
        cls,
        T: int,
        smallest_noise_level: float | None = None,
        beta_first: float | None = None,
        beta_last: float | None = None,
        zero_terminal_snr: bool = False,
    ) -> "Process":
        """β rises linearly (Ho et al. 2020).

        Args:
            T: number of timesteps; more than 20 with the published end, because below that the last β reaches 1.
            smallest_noise_level: σ/α at t_1, which gives the first β, its σ².
            beta_first: β at t_1; published is 1e-4 · 1000/T. Give it or the noise level.
            beta_last: β at t_T; published is 0.02 · 1000/T.
            zero_terminal_snr: shift and scale √ᾱ so that it ends at 0 (Lin et al. 2024).
        """
        log_snr = noise_laws.linear(T, smallest_noise_level, beta_first, beta_last, zero_terminal_snr)
        first, last = noise_laws.published_linear_betas(T)
        # As published, however it is said: the same process, and the definition that it always had.
        changed = {
            "beta_first": None if beta_first is None or beta_first == first else float(beta_first),
            "beta_last": None if beta_last is None or beta_last == last else float(beta_last),
            "zero_terminal_snr": bool(zero_terminal_snr),
        }
        return cls(log_snr, True, _definition("linear", T, smallest_noise_level, **changed))

    @classmethod
    def scaled_linear(
        cls,
        T: int,
        beta_first: float = 0.00085,
        beta_last: float = 0.012,
        zero_terminal_snr: bool = False,
        smallest_noise_level: float | None = None,
    ) -> "Process":
        """√β rises linearly (Rombach et al. 2022); the ends are Stable Diffusion's where they are not given.

        Args:
            T: number of timesteps; at least 2.
            beta_first: β at t_1.
            beta_last: β at t_T.
            zero_terminal_snr: shift and scale √ᾱ so that it ends at 0 (Lin et al. 2024).
            smallest_noise_level: σ/α at t_1; β then starts at its σ² instead of `beta_first`.
        """
        log_snr = noise_laws.scaled_linear(T, smallest_noise_level, beta_first, beta_last, zero_terminal_snr)
        ends = {"beta_first": float(beta_first), "beta_last": float(beta_last)}
        definition = _definition(
            "scaled_linear", T, smallest_noise_level, **ends, zero_terminal_snr=bool(zero_terminal_snr)
        )
        return cls(log_snr, True, definition)

    @classmethod
    def cosine(
        cls, T: int, smallest_noise_level: float | None = None, zero_terminal_snr: bool = False
    ) -> "Process":
        """σ/α is the tangent of an angle that grows evenly; β is clipped at 0.999 (Nichol & Dhariwal 2021).

        Args:
            T: number of timesteps; at least 2.
            smallest_noise_level: σ/α at t_1; the angle then runs evenly from its arctangent at t_1 to π/2.
            zero_terminal_snr: shift and scale √ᾱ so that it ends at 0 (Lin et al. 2024).
        """
        log_snr = noise_laws.cosine(T, smallest_noise_level, zero_terminal_snr)
        definition = _definition("cosine", T, smallest_noise_level, zero_terminal_snr=bool(zero_terminal_snr))
        return cls(log_snr, True, definition)

    @classmethod
    def edm(
        cls,
        T: int,
        sigma_min: float | None = None,
        sigma_max: float = 80.0,
        smallest_noise_level: float | None = None,
    ) -> "Process":
        """α = 1 and σ log-uniform from sigma_min at t_1 to sigma_max at t_T (Karras et al. 2022).

        Args:
            T: number of timesteps; at least 2.
            sigma_min: σ at t_1; 0.002 where it is not given.
            sigma_max: σ at t_T.
            smallest_noise_level: sigma_min by the name that it has in every process; give one of the two.
        """
        if sigma_min is not None and smallest_noise_level is not None:
            raise UserError(
                f"The edm process's smallest noise level is its sigma_min: give {smallest_noise_level} or "
                f"{sigma_min}, not both."
            )
        if sigma_min is None:
            sigma_min = EDM_SIGMA_MIN if smallest_noise_level is None else smallest_noise_level
        log_snr = noise_laws.edm(T, sigma_min, sigma_max)
        definition = {"name": "edm", "T": T, "sigma_min": float(sigma_min), "sigma_max": float(sigma_max)}
        return cls(log_snr, False, definition)

    @classmethod
    def from_definition(cls, definition: dict[str, Any]) -> "Process":
        """The process that has this `definition`.

        Raises:
            UserError: the name is unknown or the arguments do not fit it.
        """
        makers: dict[str, Callable[..., Process]] = {
            "linear": cls.linear,
            "scaled_linear": cls.scaled_linear,
            "cosine": cls.cosine,
            "edm": cls.edm,
        }
        if not isinstance(definition, dict):
            raise UserError(f"A process is described by its name and its arguments, not by {definition!r}.")
        arguments = dict(definition)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in makers:
            raise UserError(f"There is no process {name!r}; allowed are {', '.join(makers)}.")
        try:
            return makers[name](**arguments)
        except (TypeError, OverflowError):
            raise UserError(f"The process {name} cannot be made from {arguments}.") from None

    @property
    def name(self) -> str:
        """`linear`, `scaled_linear`, `cosine` or `edm`."""
        return str(self.definition["name"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and self.definition == other.definition

    def __hash__(self) -> int:
        return hash(tuple(self.definition.items()))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value}" for key, value in self.definition.items() if key != "name")
        return f"Process.{self.name}({arguments})"

    def log_snr(self, t: Tensor) -> Tensor:
        """log α²/σ² at times t, any shape; +∞ at t = 0; differentiable in t between t_1 and t_T.

        Raises:
            UserError: a time lies outside {0} ∪ [t_1, 1], or in the last cell of a process with zero terminal SNR.
        """
        return self._curve.at(t)

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`: +∞ → 0, −∞ → 1 with zero terminal SNR, and times for what the grid spans.

        Raises:
            UserError: a value lies outside what the grid spans.
        """
        return self._curve.time_of(log_snr)

    def log_snr_axis(self) -> Tensor:
        """The log-SNRs at t_1 … t_T as an axis to space nodes on and to interpolate over, float64 [T], all finite.

        Where log-SNR is −∞ at t_T, its place is one cell as long as the one before beyond t_{T−1}.
        """
        return self._curve.axis()

    def alpha(self, t: Tensor) -> Tensor:
        """α(t), float64."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(log_snr).sqrt() if self.variance_preserving else torch.ones_like(log_snr)

    def sigma(self, t: Tensor) -> Tensor:
        """σ(t), float64; 0 at t = 0."""
        log_snr = self.log_snr(t)
        return torch.sigmoid(-log_snr).sqrt() if self.variance_preserving else torch.exp(-log_snr / 2)

    def noise_level(self, t: Tensor) -> Tensor:
        """σ̄ = σ(t)/α(t), float64; 0 at t = 0, +∞ at the end of a process with zero terminal SNR."""
        return torch.exp(-self.log_snr(t) / 2)

    def snr(self, t: Tensor) -> Tensor:
        """α²/σ², float64; +∞ at t = 0."""
        return torch.exp(self.log_snr(t))

    def log_variance(self, t: Tensor) -> Tensor:
        """log σ²(t), float64; −∞ at t = 0."""
        log_snr = self.log_snr(t)
        return torch.nn.functional.logsigmoid(-log_snr) if self.variance_preserving else -log_snr

    def snr_gained(self, s: Tensor, t: Tensor) -> Tensor:
        """SNR(s) − SNR(t), s < t, without cancellation; float64, of the shape that s and t broadcast to."""
        log_snr_s = self.log_snr(s)
        return -torch.exp(log_snr_s) * torch.expm1(self.log_snr(t) - log_snr_s)

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """The Gaussian algebra of steps (s, t), s < t; shapes broadcast."""
        # 1 − SNR(t)/SNR(s), without cancellation: 1 at s = 0.
        gained = -torch.expm1(self.log_snr(t) - self.log_snr(s))
        variance_s, variance_t = self.sigma(s).square(), self.sigma(t).square()
        alpha_t_given_s = self.alpha(t) / self.alpha(s)
        return Transition(
            variance=variance_t * gained,
            posterior_variance=variance_s * gained,
            x0_coefficient=self.alpha(s) * gained,
            xt_coefficient=alpha_t_given_s * variance_s / variance_t,
        )

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = α(t) x_0 + σ(t) ε for x0, noise [B, …] and t a scalar or [B]; in the dtype of x0."""
        return over_images(self.alpha(t), x0) * x0 + over_images(self.sigma(t), x0) * noise


def over_images(coefficient: Tensor, images: Tensor) -> Tensor:
    """A scalar or [B] coefficient, shaped to multiply images [B, …] in their dtype and on their device."""
    coefficient = coefficient.to(device=images.device, dtype=images.dtype)
    return coefficient.reshape(-1, *[1] * (images.ndim - 1)) if coefficient.ndim else coefficient


def _definition(name: str, T: int, smallest_noise_level: float | None, **others: float | None) -> dict[str, Any]:
    """What a process is rebuilt from; of the other arguments those that are given, so that old files stay."""
    level = None if smallest_noise_level is None else float(smallest_noise_level)
    given = {key: value for key, value in others.items() if value is not None and value is not False}
    return {"name": name, "T": T, "smallest_noise_level": level, **given}
