"""The linear denoiser against its direct application, and against every other linear one."""

import torch
from torch import Tensor

from fewstep.statistics.covariance import DataCovariance

LEVELS = torch.tensor([0.01, 0.1, 0.5, 2.0, 50.0], dtype=torch.float64)


def correlated(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images with a mean and correlated pixels, of which one never changes; and noise."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(9, 9, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 0.4
    mixing[4] = 0
    flat = torch.randn(n, 9, generator=generator, dtype=torch.float64).exp() @ mixing.T + 0.3
    noise = torch.randn(n, 1, 3, 3, generator=generator, dtype=torch.float64)
    return flat.reshape(n, 1, 3, 3), noise


def test_the_covariance_is_that_of_the_pixels() -> None:
    images, _ = correlated(200)
    covariance = DataCovariance.of(images)
    flat = images.flatten(1)
    expected = (flat - flat.mean(0)).T @ (flat - flat.mean(0)) / 199
    rebuilt = covariance.eigenvectors * covariance.eigenvalues @ covariance.eigenvectors.T
    torch.testing.assert_close(rebuilt, expected)
    torch.testing.assert_close(covariance.mean, flat.mean(0))
    assert bool((covariance.eigenvalues >= 0).all())


def test_the_error_is_that_of_the_filter_applied() -> None:
    """x̂_0 = μ + C (C + σ̄² I)^{-1} (x_0 + σ̄ ε − μ) on held-out images, by solving, level by level."""
    fitted = DataCovariance.of(correlated(200)[0])
    images, noise = correlated(50, seed=1)
    flat, eps = images.flatten(1), noise.flatten(1)
    covariance = torch.cov(correlated(200)[0].flatten(1).T)
    expected = []
    for level in LEVELS:
        noisy = flat + level * eps - fitted.mean
        filtered = torch.linalg.solve(covariance + level**2 * torch.eye(9), noisy.T)
        predicted = fitted.mean + (covariance @ filtered).T
        expected.append((flat - predicted).square().sum(1).mean())
    torch.testing.assert_close(fitted.wiener_error(images, noise, LEVELS), torch.stack(expected))


def test_the_expected_error_is_the_sum_over_directions() -> None:
    """Over its own data and fresh noise, E error = Σ_j c_j² σ̄²/(c_j² + σ̄²)."""
    images, _ = correlated(4000)
    covariance = DataCovariance.of(images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    squared = LEVELS[:, None].square()
    expected = (covariance.eigenvalues * squared / (covariance.eigenvalues + squared)).sum(1)
    torch.testing.assert_close(covariance.wiener_error(images, noise, LEVELS), expected, rtol=0.05, atol=0)


def test_no_other_linear_filter_is_better() -> None:
    """Exactly, where the noise's sample moments are those of its law: ±ε pairs with whitened ε."""
    images, noise = correlated(300)
    doubled = torch.cat([images, images])
    flat = noise.flatten(1) - noise.flatten(1).mean(0)
    white = flat @ torch.linalg.inv(torch.linalg.cholesky(flat.T @ flat / len(flat))).T
    eps = torch.cat([white, -white])
    data = DataCovariance.of(doubled)
    centred = doubled.flatten(1) - data.mean
    # The sample covariance of `doubled` with divisor n − 1 differs from that of its images by this factor.
    eigenvalues = data.eigenvalues * (len(doubled) - 1) / len(doubled)
    exact = DataCovariance(data.mean, eigenvalues, data.eigenvectors)
    best = exact.wiener_error(doubled, eps.reshape(doubled.shape), LEVELS)
    generator = torch.Generator().manual_seed(3)
    for level, least in zip(LEVELS, best, strict=True):
        gain = exact.eigenvectors * (eigenvalues / (eigenvalues + level**2)) @ exact.eigenvectors.T
        for size in (0.0, 1e-3, 0.1):
            other = gain + size * torch.randn(9, 9, generator=generator, dtype=torch.float64)
            error = (centred - (centred + level * eps) @ other.T).square().sum(1).mean()
            assert error >= least * (1 - 1e-9)
            if size == 0:
                torch.testing.assert_close(error, least)
