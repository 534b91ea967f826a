"""The curve that a process is: log-SNR over time, known on a grid and interpolated between its timesteps."""

import math

import torch
from torch import Tensor

from fewstep.errors import UserError

SLACK = 1e-9  # of a grid position: n/T · T is not always n in floating point


class LogSnrCurve:
    """log α²/σ² at t_0 = 0 … t_T = 1, t_n = n/T: +∞ at t_0, linear between t_1 and the last finite value.

    That is at t_T, or at t_{T−1} where log-SNR is −∞ at t_T: over such a last cell nothing can be interpolated.

    Args:
        log_snr_grid: float64 [T], strictly descending; all but the last one finite.
        process: how messages name the process.
    """

    def __init__(self, log_snr_grid: Tensor, process: str) -> None:
        self.process = process
        self.T = len(log_snr_grid)
        self._endless = log_snr_grid[-1].item() == -math.inf
        self._last_finite = self.T - self._endless  # a grid index
        self._grid = torch.cat([log_snr_grid.new_tensor([math.inf]), log_snr_grid])
        self._values: list[float] = self._grid.tolist()

    def at(self, t: Tensor) -> Tensor:
        """Log-SNR at times t, any shape; differentiable in t.

        Raises:
            UserError: a time that is not on the curve.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.ndim == 0 and not t.requires_grad:
            return t.new_tensor(self._at(t.item()))
        position = t * self.T
        inside = (position >= 1 - SLACK) & (position <= self._last_finite + SLACK)
        at_end = (position - self.T).abs() <= SLACK
        allowed = (t == 0) | inside | at_end
        if not bool(allowed.all()):
            raise self._not_on_curve(t[~allowed].flatten()[0].item())
        grid = self._grid.to(t.device)
        below = position.detach().floor().clamp(1, self._last_finite - 1).long()
        fraction = position - below
        nearest = position.detach().round()
        # On the grid the tabulated value itself, to the last bit.
        fraction = torch.where(
            (position - nearest).abs() < SLACK, fraction + (nearest - position).detach(), fraction
        )
        log_snr = grid[below] + fraction * (grid[below + 1] - grid[below])
        if self._endless:
            log_snr = torch.where(at_end, -math.inf, log_snr)
        return torch.where(t == 0, math.inf, log_snr)

    def _at(self, t: float) -> float:
        """`at` of one number, in plain floats: solvers and statistics ask for little else, and often."""
        position = t * self.T
        if t == 0:
            return math.inf
        if self._endless and abs(position - self.T) <= SLACK:
            return -math.inf
        if not 1 - SLACK <= position <= self._last_finite + SLACK:
            raise self._not_on_curve(t)
        below, nearest = min(max(math.floor(position), 1), self._last_finite - 1), round(position)
        fraction = position - below
        if abs(position - nearest) < SLACK:
            fraction += nearest - position
        return self._values[below] + fraction * (self._values[below + 1] - self._values[below])

    def _not_on_curve(self, t: float) -> UserError:
        if self._endless:
            return UserError(
                f"Time {t} is not on {self.process}: allowed are 0, [{1 / self.T:.6g}, "
                f"{self._last_finite / self.T:.6g}] and 1; its noise level σ/α is infinite at 1, so that nothing "
                "can be interpolated just before it."
            )
        return UserError(f"Time {t} is not on {self.process}: allowed are 0 and [{1 / self.T:.6g}, 1].")

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The inverse of `at`, for log-SNRs of any shape.

        Raises:
            UserError: a value that the curve does not take.
        """
        log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
        grid = self._grid.to(log_snr.device)[: self._last_finite + 1]
        highest, lowest = grid[1].item(), grid[-1].item()
        slack = 1e-9 * (1 + abs(highest) + abs(lowest))
        clean = log_snr == math.inf
        at_end = (log_snr == -math.inf) & self._endless
        if not bool((clean | at_end | ((log_snr <= highest + slack) & (log_snr >= lowest - slack))).all()):
            raise UserError(
                f"{self.process} spans log-SNR {lowest:.4f} to {highest:.4f}; {log_snr.tolist()} does not fit."
            )
        spanned = log_snr.clamp(lowest, highest)
        below = torch.searchsorted(-grid, -spanned.contiguous(), right=True) - 1
        below = below.clamp(1, self._last_finite - 1)
        fraction = (spanned - grid[below]) / (grid[below + 1] - grid[below])
        return torch.where(clean, 0.0, torch.where(at_end, 1.0, (below + fraction) / self.T))

    def axis(self) -> Tensor:
        """Log-SNR at t_1 … t_T, float64 [T]; −∞ becomes as far below the value at t_{T−1} as t_{T−2} is above."""
        axis = self._grid[1:].clone()
        if self._endless:
            axis[-1] = 2 * axis[-2] - axis[-3]
        return axis
