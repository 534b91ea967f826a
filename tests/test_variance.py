"""The variance kinds against the conditional variances of Gaussian data and against plain minimisation."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.variance import BetaVariance, OptimalVariance, PosteriorVariance, make_variance

PAIRS = [(1, 2), (1, 40), (5, 9), (20, 21), (39, 40), (3, 30)]


def moments(process: Process, n: int) -> tuple[float, float]:
    """α and σ² at a grid index, from the noise level alone."""
    level = process.noise_level(process.grid[n]).item()
    alpha = 1 / math.sqrt(1 + level**2) if process.variance_preserving else 1.0
    return alpha, (alpha * level) ** 2


def kl(variance_q: float, variance_p: float, squared_distance: float, dimensions: int) -> float:
    """KL between isotropic Gaussians, nats."""
    ratio = variance_q / variance_p
    return 0.5 * (dimensions * (ratio - 1 - math.log(ratio)) + squared_distance / variance_p)


@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_beta_and_posterior_are_the_conditional_variances(any_process: Process, s: int, t: int) -> None:
    (alpha_s, variance_s), (alpha_t, variance_t) = moments(any_process, s), moments(any_process, t)
    forward = variance_t - (alpha_t / alpha_s) ** 2 * variance_s
    # x_s and x_t given x_0 are jointly Gaussian with covariance a σ_s².
    covariance = alpha_t / alpha_s * variance_s
    posterior = variance_s - covariance**2 / variance_t
    times = any_process.grid[s], any_process.grid[t]
    assert BetaVariance().step(any_process, *times).item() == pytest.approx(forward, rel=1e-8)
    assert PosteriorVariance().step(any_process, *times).item() == pytest.approx(posterior, rel=1e-8)


@pytest.mark.parametrize(("s", "t"), PAIRS)
@pytest.mark.parametrize("c", [0.1, 1.0, 3.0])
def test_optimal_is_the_truth_for_a_perfect_denoiser(any_process: Process, s: int, t: int, c: float) -> None:
    """For N(0, c² I) the reverse step is exactly Gaussian: its variance is that of x_s given x_t."""
    (alpha_s, variance_s), (alpha_t, variance_t) = moments(any_process, s), moments(any_process, t)
    total_s, total_t = alpha_s**2 * c**2 + variance_s, alpha_t**2 * c**2 + variance_t
    covariance = alpha_t / alpha_s * total_s
    truth = total_s - covariance**2 / total_t
    level = any_process.noise_level(any_process.grid[1:]).square()
    optimal = OptimalVariance(any_process.grid[1:], c**2 * level / (c**2 + level))
    value = optimal.step(any_process, any_process.grid[s], any_process.grid[t]).item()
    assert value == pytest.approx(truth, rel=1e-7)


@pytest.mark.parametrize(("s", "t"), PAIRS)
@pytest.mark.parametrize("error_per_dimension", [1e-4, 0.05, 2.0])
def test_optimal_minimises_the_kl(any_process: Process, s: int, t: int, error_per_dimension: float) -> None:
    dimensions = 5
    step = any_process.transition(any_process.grid[s], any_process.grid[t])
    posterior, c = step.posterior_variance.item(), step.x0_coefficient.item()

    def cost(log_ratio: float) -> float:
        distance = c**2 * dimensions * error_per_dimension
        return kl(posterior, posterior * math.exp(log_ratio), distance, dimensions)

    best = minimize_scalar(cost, bounds=(-1, 60), method="bounded", options={"xatol": 1e-9})
    optimal = OptimalVariance(any_process.grid[1:], torch.full((40,), error_per_dimension, dtype=torch.float64))
    value = optimal.step(any_process, any_process.grid[s], any_process.grid[t]).item()
    assert math.log(value / posterior) == pytest.approx(best.x, abs=1e-4)
    assert cost(math.log(value / posterior)) <= best.fun + 1e-12


def test_the_additive_decoder_of_posterior_and_beta(any_process: Process) -> None:
    """σ²_{t|0}, which is σ²(t); at the first timestep σ̃²(1, 2), where Ho et al. 2020 clip it."""
    (alpha_1, variance_1), (alpha_2, variance_2) = moments(any_process, 1), moments(any_process, 2)
    clipped = variance_1 * (1 - (alpha_2 / alpha_1) ** 2 * variance_1 / variance_2)
    expected = [clipped] + [moments(any_process, n)[1] for n in range(2, 41)]
    for kind in (BetaVariance(), PosteriorVariance()):
        value = kind.decoder(any_process, any_process.grid[1:])
        assert value.tolist() == pytest.approx(expected, rel=1e-8)
        assert kind.decoder(any_process, any_process.grid[1]).item() == pytest.approx(clipped, rel=1e-8)


def test_the_decoder_of_optimal_is_its_error(any_process: Process) -> None:
    error = torch.rand(40, dtype=torch.float64)
    optimal = OptimalVariance(any_process.grid[1:], error)
    assert torch.equal(optimal.decoder(any_process, any_process.grid[1:]), error)
    assert optimal.decoder(any_process, any_process.grid[7]).item() == error[6].item()


def test_optimal_knows_only_the_times_that_it_was_fitted_at() -> None:
    process = Process.cosine(40)
    optimal = OptimalVariance(process.grid[[3, 9, 40]], torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    assert optimal.error(process.grid[[40, 3, 9]]).tolist() == [0.3, 0.1, 0.2]
    for index in (1, 4, 39):
        with pytest.raises(UserError, match="not fitted at time"):
            optimal.error(process.grid[index])


def test_variance_kinds_have_names() -> None:
    assert make_variance("posterior").name == "posterior"
    assert make_variance("beta").name == "beta"
    assert make_variance("optimal", torch.ones(1), torch.ones(1)).name == "optimal"
    with pytest.raises(UserError, match="'guessed'; allowed are posterior, beta, optimal, learned"):
        make_variance("guessed")
    with pytest.raises(UserError, match="needs statistics"):
        make_variance("optimal")
