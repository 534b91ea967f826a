"""The whole cost table and its totals against arithmetic that shares nothing with the source.

The independent side starts from products of 1 − β in extended precision, gets each posterior from precisions, and
takes KLs between Gaussians as such.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from fewstep.data.base import image_numbers
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError

SHAPE, DIMENSIONS, LEVELS = (1, 2, 2), 4, 17
VARIANCES = ["posterior", "beta", "optimal"]
PATHS = [[0, 40], [0, 1, 40], [0, 1, 2, 40], [0, 7, 9, 23, 40], list(range(41))]


def cosine_angles(T: int, level: float | None) -> np.ndarray:
    """The angles at grid indices 0 … T whose cos² is ᾱ, up to a factor and before the clip of β."""
    right = np.longdouble(math.pi) / 2
    if level is None:
        return (np.arange(T + 1) / np.longdouble(T) + np.longdouble(0.008)) / np.longdouble(1.008) * right
    first = np.arctan(np.longdouble(level))
    return np.concatenate([[0], first + (right - first) * np.arange(T) / np.longdouble(T - 1)])


@cache
def alphas_and_variances(process: Process) -> tuple[np.ndarray, np.ndarray]:
    """α and σ² at grid indices 0 … 40 from the processes' published definitions, extended precision."""
    name, T, level = process.name, process.T, process.definition.get("smallest_noise_level")
    n = np.arange(1, T + 1, dtype=np.longdouble)
    if name == "edm":
        low, high = np.log(np.longdouble(0.02)), np.log(np.longdouble(30))
        sigma = np.exp(low + (high - low) * (n - 1) / (T - 1))
        return np.ones(T + 1, np.longdouble), np.concatenate([[0], sigma**2])
    if name == "linear":
        first = 1e-4 * 1000 / T if level is None else level**2 / (1 + level**2)
        beta = first + (np.longdouble(0.02 * 1000 / T) - first) * (n - 1) / (T - 1)
    else:
        signal = np.cos(cosine_angles(T, level)) ** 2
        beta = np.minimum(1 - signal[1:] / signal[:-1], np.longdouble(0.999))
    alpha_bar = np.concatenate([[1], np.cumprod(1 - beta)])
    return np.sqrt(alpha_bar), 1 - alpha_bar


def kl(mean_gap_squared: float, variance_q: float, variance_p: float) -> float:
    """KL(N(m, v_q I) ‖ N(m', v_p I)) in DIMENSIONS dimensions, nats."""
    trace, log_determinant = DIMENSIONS * variance_q / variance_p, DIMENSIONS * np.log(variance_p / variance_q)
    return 0.5 * (trace - DIMENSIONS + log_determinant + mean_gap_squared / variance_p)


def independent_step(process: Process, s: int, t: int, kind: str, error: float, fitted: float) -> float:
    """L(s, t), s > 0, for a squared error ‖x_0 − x̂_0‖² and the training e(t)/D behind `optimal`."""
    alphas, variances = alphas_and_variances(process)
    a = alphas[t] / alphas[s]
    forward = variances[t] - a**2 * variances[s]
    precision = 1 / variances[s] + a**2 / forward
    pull = alphas[s] / variances[s] / precision  # how far the posterior's mean moves per unit of x_0
    model = {"posterior": 1 / precision, "beta": forward, "optimal": 1 / precision + pull**2 * fitted}[kind]
    return float(kl(pull**2 * error, 1 / precision, model))


def independent_decoder_variance(process: Process, t: int, kind: str, fitted: float) -> float:
    alphas, variances = alphas_and_variances(process)
    if kind == "optimal":
        return fitted
    if t > 1:
        return float(variances[t])
    a = alphas[2] / alphas[1]
    return float(1 / (1 / variances[1] + a**2 / (variances[2] - a**2 * variances[1])))


def independent_decoder(x0: Tensor, predicted: Tensor, variance: float) -> np.ndarray:
    """−log P of grey levels per image, each bin measured from the side of the Gaussian that it lies on."""
    pixels, half = x0.numpy(), 1 / (LEVELS - 1)
    model = norm(predicted.numpy(), math.sqrt(variance))
    low, high = np.where(pixels < -1 + half, -np.inf, pixels - half), pixels + half
    high = np.where(pixels > 1 - half, np.inf, high)
    right = low > predicted.numpy()
    larger = np.where(right, model.logsf(low), model.logcdf(high))
    smaller = np.where(right, model.logsf(high), model.logcdf(low))
    return -(larger + np.log1p(-np.exp(smaller - larger))).reshape(len(x0), -1).sum(1)


def independent_total(process: Process, x0: Tensor, x_hat, path: list[int], kind: str, fitted) -> np.ndarray:
    """The negative ELBO per image for predictions x_hat(index) and training errors fitted(index)."""
    alphas, variances = alphas_and_variances(process)
    prior = float(variances[-1]) if process.name == "edm" else 1.0
    squares = x0.square().flatten(1).sum(1).numpy()
    total = np.array([kl(alphas[-1] ** 2 * square, variances[-1], prior) for square in squares], dtype=np.float64)
    first = path[1]
    variance = independent_decoder_variance(process, first, kind, fitted(first))
    total += independent_decoder(x0, x_hat(first), variance)
    for s, t in pairwise(path[1:]):
        errors = (x0 - x_hat(t)).square().flatten(1).sum(1).tolist()
        total += [independent_step(process, s, t, kind, error, fitted(t)) for error in errors]
    return total


def closed_form(process: Process, c: float) -> DenoisingError:
    """Statistics in which e(t) is exactly that of N(0, c² I)."""
    level = process.noise_level(process.grid[1:]).square()
    error = c**2 * level / (c**2 + level)
    zeros = torch.zeros(process.T, 1, dtype=torch.float64)
    return DenoisingError(
        process=process,
        indices=torch.arange(1, process.T + 1),
        error=DIMENSIONS * error[:, None],
        decoder_of_process=zeros,
        decoder_of_error=zeros,
        fitted_error=error,
        prior=torch.zeros(1, dtype=torch.float64),
        dimensions=DIMENSIONS,
        levels=LEVELS,
        split="train",
        fitted_split="train",
        seed=0,
        calls=0,
    )


def crooked(process: Process) -> Denoiser:
    """A poor denoiser, nothing like linear."""
    weights = torch.randn(DIMENSIONS, DIMENSIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        mixed = torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None] / process.T))
        return 0.8 * mixed.reshape(x.shape)

    return Denoiser(network, process, "x0")


@pytest.mark.parametrize("kind", VARIANCES)
@pytest.mark.parametrize("c", [0.3, 1.5])
def test_the_whole_table_of_gaussian_data(any_process: Process, kind: str, c: float) -> None:
    table = ElboObjective(kind).edge_costs({KIND: closed_form(any_process, c)}).costs
    alphas, variances = alphas_and_variances(any_process)
    fitted = c**2 * variances / (alphas**2 * c**2 + variances)
    for t in range(2, 41):
        error = DIMENSIONS * fitted[t]
        column = [independent_step(any_process, s, t, kind, error, fitted[t]) for s in range(1, t)]
        np.testing.assert_allclose(table[1:t, t], column, rtol=2e-8, atol=1e-10)
    lower = torch.ones(41, 41, dtype=torch.bool).tril()
    assert bool((table[lower] == math.inf).all())
    assert bool(torch.isfinite(table[~lower]).all())


@pytest.mark.parametrize("c", [0.3, 1.5])
def test_posterior_steps_are_the_fall_of_the_snr(any_process: Process, c: float) -> None:
    """KL = ½ (SNR(s) − SNR(t)) e(t)."""
    statistics = closed_form(any_process, c)
    table = ElboObjective("posterior").edge_costs({KIND: statistics}).costs
    alphas, variances = alphas_and_variances(any_process)
    snr = (alphas[1:] ** 2 / variances[1:]).astype(np.float64)
    expected = 0.5 * (snr[:, None] - snr[None]) * statistics.error[:, 0].numpy()
    upper = np.triu_indices(40, 1)
    np.testing.assert_allclose(table[1:, 1:].numpy()[upper], expected[upper], rtol=1e-8, atol=1e-12)


def test_a_table_of_many_timesteps_is_filled_to_its_edges() -> None:
    process = Process.linear(600)
    statistics = closed_form(process, 0.5)
    table = ElboObjective("posterior").edge_costs({KIND: statistics}).costs
    snr = process.snr(process.grid[1:]).numpy()
    expected = 0.5 * (snr[:, None] - snr[None]) * statistics.error[:, 0].numpy()
    upper = np.triu_indices(600, 1)
    np.testing.assert_allclose(table[1:, 1:].numpy()[upper], expected[upper], rtol=1e-6, atol=1e-10)
    assert bool((table.tril() == math.inf)[np.tril_indices(601)].all())


@pytest.mark.parametrize("c", [0.3, 1.5])
def test_optimal_steps_are_mutual_information(any_process: Process, c: float) -> None:
    """With the exact denoiser p(x_s | x_t) is exact, so a path's KLs telescope to I(x_0; x_{t_1}) − I(x_0; x_1).

    For Gaussian data that is (D/2) log[(1 + c² SNR(t_1))/(1 + c² SNR(1))], whatever lies between.
    """
    table = ElboObjective("optimal").edge_costs({KIND: closed_form(any_process, c)})
    alphas, variances = alphas_and_variances(any_process)
    snr = alphas[1:] ** 2 / variances[1:]
    information = 0.5 * DIMENSIONS * np.log1p(c**2 * snr)
    for path in PATHS[1:]:
        expected = float(information[path[1] - 1] - information[-1])
        assert table.total(path) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_total_of_a_schedule(any_process: Process, measure, grey_images, kind: str) -> None:
    """Prior, KLs and decoder; `optimal` fitted on some images and judged on others."""
    denoiser = crooked(any_process)
    train = measure(grey_images(11, SHAPE, seed=1), denoiser, seed=3)
    images = grey_images(6, SHAPE, seed=2)
    judged = measure(images, denoiser, seed=4, split="test", fitted=train)
    noise = Noise(4, image_numbers("test", 6), SHAPE)(0)
    alphas, variances = alphas_and_variances(any_process)

    def x_hat(index: int) -> Tensor:
        x_t = float(alphas[index]) * images + float(np.sqrt(variances[index])) * noise
        return denoiser(x_t, any_process.grid[index]).x0

    def fitted(index: int) -> float:
        return train.error[index - 1].mean().item() / DIMENSIONS

    objective = ElboObjective(kind)
    table = objective.edge_costs({KIND: judged})
    for path in PATHS:
        expected = independent_total(any_process, images, x_hat, path, kind, fitted)
        schedule = Schedule.on_grid(path, any_process)
        np.testing.assert_allclose(objective.image_values({KIND: judged}, schedule), expected, rtol=1e-7)
        assert objective.value({KIND: judged}, schedule) == pytest.approx(expected.mean(), rel=1e-7)
        assert table.total(path) + judged.prior.mean().item() == pytest.approx(expected.mean(), rel=1e-7)
