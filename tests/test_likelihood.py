"""The ELBO's ends against numerical integration, SciPy and arbitrary precision."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from fewstep.errors import UserError
from fewstep.likelihood import bits_per_dim, check_images, discretised_gaussian_nats, prior_nats
from fewstep.process import Process


def grey(levels: int) -> Tensor:
    """Every level once, as one-pixel images [levels, 1, 1, 1]."""
    return (torch.arange(levels, dtype=torch.float64) / (levels - 1) * 2 - 1)[:, None, None, None]


def nats(levels: int, mean: float, deviation: float) -> Tensor:
    """−log P of every level."""
    x0 = grey(levels)
    variance = torch.tensor(deviation**2, dtype=torch.float64)
    return discretised_gaussian_nats(x0, torch.full_like(x0, mean), variance, levels)


def exact_nats(level: int, levels: int, mean: float, deviation: float) -> float:
    """The same for one level with 60 digits."""
    with mpmath.workdps(60):
        x0, half_width = mpmath.mpf(2 * level) / (levels - 1) - 1, mpmath.mpf(1) / (levels - 1)
        scale = mpmath.sqrt(2) * mpmath.mpf(deviation)
        low = (x0 - half_width - mean) / scale if level > 0 else -mpmath.inf
        high = (x0 + half_width - mean) / scale if level < levels - 1 else mpmath.inf
        if low > 0:  # the same bin, mirrored, where erfc does not cancel
            low, high = -high, -low
        return float(-mpmath.log((mpmath.erfc(-high) - mpmath.erfc(-low)) / 2))


@given(st.sampled_from([2, 17, 256]), st.floats(-5, 5), st.floats(-6, 3))
def test_the_levels_share_all_probability(levels: int, mean: float, log_deviation: float) -> None:
    total = torch.exp(-nats(levels, mean, math.exp(log_deviation))).sum().item()
    assert total == pytest.approx(1, abs=1e-11)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.3), (-0.9, 0.05), (1.3, 0.5), (0.02, 4.0)])
def test_probabilities_are_scipys(levels: int, mean: float, deviation: float) -> None:
    x0 = grey(levels).flatten().numpy()
    edges = np.concatenate([[-np.inf], (x0[1:] + x0[:-1]) / 2, [np.inf]])
    cdf, sf = norm.cdf(edges, mean, deviation), norm.sf(edges, mean, deviation)
    expected = np.where(edges[:-1] > mean, sf[:-1] - sf[1:], cdf[1:] - cdf[:-1])
    computed = torch.exp(-nats(levels, mean, deviation)).numpy()
    np.testing.assert_allclose(computed, expected, rtol=1e-9, atol=1e-300)


@given(st.sampled_from([2, 17, 256]), st.data(), st.floats(-2, 2), st.floats(-9, 5))
def test_tails_are_exact(levels: int, data: st.DataObject, mean: float, log_deviation: float) -> None:
    """Thousands of standard deviations away, and in bins a thousand times narrower than the Gaussian."""
    deviation = math.exp(log_deviation)
    level = data.draw(st.integers(0, levels - 1))
    computed = nats(levels, mean, deviation)[level].item()
    assert computed == pytest.approx(exact_nats(level, levels, mean, deviation), rel=1e-9, abs=1e-12)


def test_narrow_bins_are_the_density() -> None:
    levels, mean, deviation = 2**14 + 1, 0.3, 0.2
    x0 = grey(levels).flatten().numpy()
    expected = -norm.logpdf(x0, mean, deviation) - math.log(2 / (levels - 1))
    np.testing.assert_allclose(nats(levels, mean, deviation)[1:-1], expected[1:-1], rtol=1e-6)


def test_a_mirrored_image_is_as_likely() -> None:
    torch.testing.assert_close(nats(17, 0.4, 0.01).flip(0), nats(17, -0.4, 0.01), rtol=1e-12, atol=1e-12)


def test_an_image_is_the_sum_of_its_pixels(grey_images) -> None:
    x0, mean = grey_images(3, (2, 3, 3)), torch.rand(3, 2, 3, 3, dtype=torch.float64)
    variance = torch.rand(3, 1, 1, 1, dtype=torch.float64)
    together = discretised_gaussian_nats(x0, mean, variance, 17)
    assert together.dtype == torch.float64
    for row in range(3):
        pixels = zip(x0[row].flatten(), mean[row].flatten(), strict=True)
        deviation = variance[row].sqrt().item()
        single = [nats(17, m.item(), deviation)[round((x.item() + 1) * 8)].item() for x, m in pixels]
        assert together[row].item() == pytest.approx(sum(single), rel=1e-12)


@pytest.mark.parametrize("mean", [-30.0, -1.0, 0.01, 1.0, 30.0])
@pytest.mark.parametrize("deviation", [0.01, 1.0])
def test_the_gradient_is_finite_and_right(mean: float, deviation: float) -> None:
    """In the mean, on every level: outermost bins and far tails included."""
    x0 = grey(17)
    at = torch.full_like(x0, mean, requires_grad=True)
    variance = torch.tensor(deviation**2, dtype=torch.float64)
    (slope,) = torch.autograd.grad(discretised_gaussian_nats(x0, at, variance, 17).sum(), at)
    step = 1e-6
    for level in (0, 1, 8, 16):
        high, low = (exact_nats(level, 17, mean + side * step, deviation) for side in (1, -1))
        assert slope[level].item() == pytest.approx((high - low) / (2 * step), rel=1e-4, abs=1e-6)


def test_the_prior_term_is_a_kl_by_integration(any_process: Process) -> None:
    end = any_process.grid[-1]
    alpha, deviation = any_process.alpha(end).item(), any_process.sigma(end).item()
    prior = norm(0, 1 if any_process.variance_preserving else deviation)
    x0 = torch.tensor([[-1.0, 0.3], [0.0, 0.9]], dtype=torch.float64)[:, None, None]

    def kl(pixel: float) -> float:
        q = norm(alpha * pixel, deviation)
        reach = 12 * deviation
        integrand = lambda x: q.pdf(x) * (q.logpdf(x) - prior.logpdf(x))  # noqa: E731
        return quad(integrand, alpha * pixel - reach, alpha * pixel + reach, epsabs=1e-13, limit=200)[0]

    expected = [kl(-1.0) + kl(0.3), kl(0.0) + kl(0.9)]
    assert prior_nats(any_process, x0).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-11)


def test_one_bit_per_dimension() -> None:
    assert bits_per_dim(64 * math.log(2), 64) == pytest.approx(1, rel=1e-15)
    both = bits_per_dim(torch.tensor([math.log(2), 3 * math.log(2)], dtype=torch.float64), 1)
    assert both.tolist() == pytest.approx([1, 3])


def test_images_on_their_levels_pass(grey_images) -> None:
    for levels in (2, 17, 256):
        check_images(grey_images(4, levels=levels).float(), levels, "these")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(3, 8, 8), r"must be a float tensor \[B, C, H, W\]; given was torch.float32 \[3, 8, 8\]"),
        (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "given was torch.uint8"),
        (torch.zeros(0, 1, 8, 8), "these holds no images"),
        (torch.full((1, 1, 2, 2), 255.0), r"must lie in \[-1, 1\]; their values run from 255 to 255"),
        (torch.full((1, 1, 2, 2), -1.01), r"must lie in \[-1, 1\]"),
        (torch.full((1, 1, 2, 2), math.nan), r"must lie in \[-1, 1\]"),
        (torch.full((1, 1, 2, 2), 0.03), "do not lie on 17 grey levels"),
    ],
)
def test_images_that_are_none(images: Tensor, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_images(images, 17, "these")
