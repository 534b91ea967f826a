"""Whole ELBOs in improved-diffusion's convention against that code's own way: β' of a respaced process.

The independent side recomputes everything from β'_j = 1 − ᾱ_j/ᾱ_{j−1} over the retained timesteps in extended
precision: posterior means, clipped log-variances, Gaussian KLs, and a discretised decoder by SciPy or by tanh.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.statistics.clipped_denoising_error import KIND, ClippedDenoisingErrorEstimator
from fewstep.statistics.image_sums import DenoisingError

SHAPE, DIMENSIONS, LEVELS, T = (1, 2, 2), 4, 17, 60
KINDS = ["posterior", "beta", "learned"]
PATHS = [[0, 1, 2, 60], [0, 1, 60], [0, 5, 6, 31, 60], [0, 59, 60], [0, 17, 60], list(range(61))]


class TwoHeads(torch.nn.Module):
    """An arbitrary smooth network with a variance head whose fraction leaves [0, 1]."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        when = time.reshape(-1, 1, 1, 1) / 60
        return torch.cat(
            [1.4 * torch.tanh(1.5 * x * (1.3 - when) + 0.1), 1.3 * torch.sin(2 * x + 3 * when)], dim=1
        )


PROCESSES = {
    "linear": Process.linear(T),
    "cosine": Process.cosine(T),
    "cosine from 1/16": Process.cosine(T, 1 / 16),
}


@pytest.fixture(params=list(PROCESSES))
def denoiser(request: pytest.FixtureRequest) -> Denoiser:
    return Denoiser(TwoHeads(), PROCESSES[request.param], "x0")


def measure(denoiser: Denoiser, images: Tensor) -> DenoisingError:
    estimator = ClippedDenoisingErrorEstimator(
        images, None, split="train", levels=LEVELS, indices=range(1, T + 1), seed=3, batch_size=5
    )
    return estimator.collect(denoiser.process, [estimator.measure(denoiser, row) for row in range(T)])


def exact_decoder(x0: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    half, deviation = 1 / (LEVELS - 1), np.exp(log_variance / 2)
    lower = np.where(x0 < -1 + half, -np.inf, (x0 - half - mean) / deviation)
    upper = np.where(x0 > 1 - half, np.inf, (x0 + half - mean) / deviation)
    mirror = lower > 0
    lower, upper = np.where(mirror, -upper, lower), np.where(mirror, -lower, upper)
    return -(norm.logcdf(upper) + np.log1p(-np.exp(norm.logcdf(lower) - norm.logcdf(upper))))


def tanh_decoder(x0: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    half, deviation = 1 / (LEVELS - 1), np.exp(log_variance / 2)

    def cdf(u: np.ndarray) -> np.ndarray:
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))

    above, below = cdf((x0 - mean + half) / deviation), cdf((x0 - mean - half) / deviation)
    inner = np.log(np.maximum(above - below, 1e-12))
    last = np.log(np.maximum(1 - below, 1e-12))
    return -np.where(x0 < -0.999, np.log(np.maximum(above, 1e-12)), np.where(x0 > 0.999, last, inner))


def independent_bits(denoiser: Denoiser, images: Tensor, path: list[int], kind: str, decoder) -> np.ndarray:
    """bits/dim per image of the respaced process over `path`."""
    process = denoiser.process
    noise = Noise(3, range(len(images)), SHAPE)(0)
    beta = 1 - np.exp(np.diff(np.concatenate([[0], alpha_bar_logs(process)])))  # of the whole grid
    alpha_bar = np.cumprod(1 - beta)[np.array(path[1:]) - 1]
    beta = 1 - alpha_bar / np.concatenate([[1], alpha_bar[:-1]])  # of the respaced process
    before = np.concatenate([[1], alpha_bar[:-1]])
    posterior_variance = beta * (1 - before) / (1 - alpha_bar)
    clipped = np.log(np.concatenate([posterior_variance[1:2], posterior_variance[1:]]))
    large = np.log(np.concatenate([posterior_variance[1:2], beta[1:]]))
    x0 = images.numpy().astype(np.longdouble)
    total = np.zeros(len(images), dtype=np.longdouble)
    for j, index in enumerate(path[1:]):
        t = process.grid[index]
        prediction = denoiser(process.add_noise(images, t, noise), t)
        mean, fraction = prediction.x0.clamp(-1, 1).numpy(), prediction.fraction.numpy()
        log_variance = {
            "posterior": np.full_like(fraction, clipped[j]),
            "beta": np.full_like(fraction, large[j]),
            "learned": fraction * float(np.log(beta[j])) + (1 - fraction) * float(clipped[j]),
        }[kind]
        if j == 0:
            nats = decoder(x0.astype(np.float64), mean, log_variance)
        else:
            gap = (beta[j] * np.sqrt(before[j]) / (1 - alpha_bar[j]) * (x0 - mean)) ** 2
            nats = 0.5 * (
                -1 + log_variance - clipped[j] + np.exp(clipped[j] - log_variance) + gap * np.exp(-log_variance)
            )
        total += nats.reshape(len(images), -1).sum(1)
    end = alpha_bar[-1]
    total += 0.5 * (end * x0**2 - end - np.log1p(-end)).reshape(len(images), -1).sum(1)
    return (total / (DIMENSIONS * math.log(2))).astype(np.float64)


def alpha_bar_logs(process: Process) -> np.ndarray:
    """log ᾱ_1 … log ᾱ_T from the definition of the process, extended precision."""
    level, n = process.definition["smallest_noise_level"], np.arange(T + 1, dtype=np.longdouble)
    if process.name == "linear":
        beta = np.linspace(np.longdouble(0.1) / T, np.longdouble(20) / T, T)
    else:
        right = np.longdouble(np.pi) / 2
        if level is None:
            signal = np.cos((n / T + np.longdouble(0.008)) / np.longdouble(1.008) * right) ** 2
        else:
            first = np.arctan(np.longdouble(level))
            signal = np.concatenate([[1], np.cos(first + (right - first) * n[:-1] / (T - 1)) ** 2])
        beta = np.minimum(1 - signal[1:] / signal[:-1], np.longdouble(0.999))
    return np.cumsum(np.log1p(-beta))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(map(str, path[:5])))
def test_totals_are_those_of_the_respaced_process(
    denoiser: Denoiser, grey_images, kind: str, path: list[int]
) -> None:
    """From one network call per timestep, and from K calls, to 1e-9 bits/dim but for the interpolation's 1e-6."""
    images = grey_images(7, SHAPE, LEVELS)
    statistics, schedule = {KIND: measure(denoiser, images)}, Schedule.on_grid(path, denoiser.process)
    expected = independent_bits(denoiser, images, path, kind, exact_decoder)
    objective = ElboObjective(kind, "improved_diffusion")
    noise = Noise(3, range(7), SHAPE)(0)
    direct = objective.network_nats(denoiser, images, schedule.times, noise, statistics)
    np.testing.assert_allclose(direct.numpy() / (DIMENSIONS * math.log(2)), expected, rtol=0, atol=1e-9)
    interpolated = objective.image_values(statistics, schedule).numpy() / (DIMENSIONS * math.log(2))
    np.testing.assert_allclose(interpolated, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tanh_approximation_by_name(denoiser: Denoiser, grey_images, kind: str) -> None:
    images, path = grey_images(5, SHAPE, LEVELS), [0, 2, 7, 40, 60]
    objective = ElboObjective(kind, "improved_diffusion_tanh")
    times, noise = Schedule.on_grid(path, denoiser.process).times, Noise(3, range(5), SHAPE)(0)
    nats = objective.network_nats(denoiser, images, times, noise, {KIND: measure(denoiser, images)})
    expected = independent_bits(denoiser, images, path, kind, tanh_decoder)
    # Φ's differences near 1 are all but cancelled there, down to 1e-12: nine digits of the total are left.
    np.testing.assert_allclose(nats.numpy() / (DIMENSIONS * math.log(2)), expected, rtol=3e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_programme_on_pairs_finds_the_best_of_all_schedules(
    denoiser: Denoiser, grey_images, kind: str
) -> None:
    images = grey_images(7, SHAPE, LEVELS)
    statistics, objective = {KIND: measure(denoiser, images)}, ElboObjective(kind, "improved_diffusion")
    found = Dp()(objective, statistics, denoiser, [2, 3])
    for K, candidates in {
        2: [[0, i, T] for i in range(1, T)],
        3: [[0, i, j, T] for i in range(1, T - 1, 3) for j in range(i + 1, T, 4)],
    }.items():
        values = [objective.value(statistics, Schedule.on_grid(path, denoiser.process)) for path in candidates]
        best = objective.value(statistics, found[K])
        assert best <= min(values) * (1 + 1e-6)
    table = objective.edge_costs(statistics)
    for schedule in found.values():
        prior = statistics[KIND].prior.mean().item()
        assert table.total(schedule.indices) + prior == pytest.approx(
            objective.value(statistics, schedule), rel=1e-9
        )


def test_the_optimal_variance_reads_with_its_own_error(denoiser: Denoiser, grey_images) -> None:
    """Its term depends on n_1 alone, so there are no pairs, and one step is a schedule."""
    images = grey_images(7, SHAPE, LEVELS)
    statistics = {KIND: measure(denoiser, images)}
    table = ElboObjective("optimal", "improved_diffusion").edge_costs(statistics)
    assert table.first_pairs is None
    assert math.isfinite(table.total([0, T]))


def test_what_the_convention_cannot_do(denoiser: Denoiser, grey_images) -> None:
    statistics = {KIND: measure(denoiser, grey_images(3, SHAPE, LEVELS))}
    with pytest.raises(UserError, match="no second node"):
        ElboObjective("beta", "improved_diffusion").value(statistics, Schedule([0, 1], denoiser.process))
    with pytest.raises(UserError, match="has no table"):
        ElboObjective("beta", "improved_diffusion_tanh").edge_costs(statistics)
