"""Interpolation at Chebyshev points: functions of one scalar that are costly to evaluate, for every argument.

A function on an interval is held as the coefficients of Σ_k a_k T_k(x), the interval mapped to x in [−1, 1].
"""

import math

import numpy as np
import torch
from scipy.special import ive
from torch import Tensor

MOST_POINTS = 200


def points(n: int) -> Tensor:
    """The n ≥ 2 points −cos(πj/(n − 1)), ascending from −1 to 1, float64; `points(2n − 1)` holds `points(n)`."""
    return -torch.cos(math.pi * torch.arange(n, dtype=torch.float64) / (n - 1))


def coefficients(values: Tensor) -> Tensor:
    """The interpolating polynomials' coefficients a, [n, …], from values at `points(n)`, [n, …]."""
    n = len(values)
    k = torch.arange(n, dtype=torch.float64)
    transform = torch.cos(math.pi * k[:, None] * (1 - k / (n - 1))) * (2 / (n - 1))
    transform[[0, -1]] /= 2
    transform[:, [0, -1]] /= 2
    return torch.tensordot(transform.to(values.device), values, dims=1)


def evaluate(a: Tensor, x: Tensor) -> Tensor:
    """Σ_k a_k T_k(x) by Clenshaw's recurrence; the shapes of a[0] and x broadcast.

    Args:
        a: coefficients, [n, …], zeros where a polynomial has a lower degree.
        x: arguments in [−1, 1].
    """
    shape = torch.broadcast_shapes(a.shape[1:], x.shape)
    twice = (2 * x).expand(shape)
    after, next_after = (torch.zeros(shape, dtype=a.dtype, device=a.device) for _ in range(2))
    for coefficient in a[1:].flip(0):  # in place: tables of millions of entries come through here
        after, next_after = next_after.neg_().addcmul_(twice, after).add_(coefficient), after
    return next_after.neg_().addcmul_(x.expand(shape), after).add_(a[0])


def points_for_exponentials(rate: float, length: float, bound: float) -> int:
    """How many points interpolate e^{−ay} on [0, length] for every |a| ≤ rate, to a relative error of `bound`.

    With z = length/2, e^{−ay} = e^{−az} [I_0(az) + 2 Σ (−1)^k I_k(az) T_k(x)], and interpolation at n points errs
    by at most twice the sum of the coefficients' magnitudes from k = n on (Trefethen 2013, Theorem 4.2).
    Over the least value e^{−az − |a|z} that is 4 e^{|a|z} Σ_{k≥n} I_k(|a|z), largest at |a| = rate. What holds for
    every exponential holds for every mixture of them with positive weights.

    Raises:
        ValueError: `MOST_POINTS` do not reach the bound.
    """
    z = rate * length / 2
    scaled = ive(np.arange(2 * MOST_POINTS), z)  # e^{−z} I_k(z)
    tails = scaled[::-1].cumsum()[::-1]
    enough = np.flatnonzero(tails[: MOST_POINTS + 1] <= bound / 4 * math.exp(-2 * z))
    if len(enough) == 0:
        raise ValueError(f"e^(−ay) with |a| ≤ {rate} on [0, {length}] needs more than {MOST_POINTS} points.")
    return max(2, int(enough[0]))
