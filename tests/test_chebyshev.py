"""Chebyshev interpolation against NumPy's polynomials and against exponentials in closed form."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

from fewstep.chebyshev import coefficients, evaluate, points, points_for_exponentials


@pytest.mark.parametrize("n", [2, 3, 9, 40])
def test_a_polynomial_of_low_degree_is_its_own_interpolant(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    a = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    values = torch.from_numpy(chebyshev.chebval(points(n).numpy(), a.numpy())).T
    torch.testing.assert_close(coefficients(values), a, rtol=0, atol=1e-12)
    expected = torch.from_numpy(chebyshev.chebval(x.numpy(), a.numpy()))
    torch.testing.assert_close(evaluate(a[:, :, None], x), expected, rtol=0, atol=1e-11)


def test_zeros_pad_a_polynomial() -> None:
    a, x = torch.randn(5, dtype=torch.float64), torch.linspace(-1, 1, 9, dtype=torch.float64)
    padded = torch.cat([a, torch.zeros(7, dtype=torch.float64)])
    torch.testing.assert_close(evaluate(padded, x), evaluate(a, x), rtol=0, atol=1e-14)


def test_every_second_point_of_the_finer_set_is_a_point_of_the_coarser() -> None:
    torch.testing.assert_close(points(17)[::2], points(9), rtol=0, atol=1e-15)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75, 2.0])
@pytest.mark.parametrize("length", [0.01, 1.0, 11.5])
@pytest.mark.parametrize("bound", [1e-3, 1e-6, 1e-9])
def test_the_number_of_points_keeps_its_bound_and_is_no_waste(rate: float, length: float, bound: float) -> None:
    """Every exponential is right to the bound; half of many points would not do for the fastest."""
    rounding = 1e-14 * math.exp(rate * length)  # of the largest value, over the least
    n = points_for_exponentials(rate, length, bound)
    y = torch.linspace(0, length, 2001, dtype=torch.float64)
    for a in np.linspace(-rate, rate, 9):
        values = torch.exp(-a * (points(n) + 1) / 2 * length)
        found, expected = evaluate(coefficients(values)[:, None], 2 * y / length - 1), torch.exp(-a * y)
        assert (found / expected - 1).abs().max().item() <= bound + rounding
    if n >= 8 and rounding < bound:
        values = torch.exp(-rate * (points(n // 2) + 1) / 2 * length)
        found = evaluate(coefficients(values)[:, None], 2 * y / length - 1)
        assert (found / torch.exp(-rate * y) - 1).abs().max().item() > bound


def test_what_no_number_of_points_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 200 points"):
        points_for_exponentials(300.0, 11.5, 1e-6)
