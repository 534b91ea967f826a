"""e(t) and the decoder's term against closed forms, numerical integration, and a plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.stats import norm
from torch import Tensor

from fewstep.data.base import image_numbers
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.statistics.denoising_error import DenoisingError

SHAPE = (1, 2, 2)
DIMENSIONS = 4


def level_nats(x0: np.ndarray, mean: np.ndarray, deviation: float, levels: int = 17) -> np.ndarray:
    """−log of the probability of grey levels x0 under a discretised Gaussian, by SciPy."""
    half = 1 / (levels - 1)
    upper = np.where(x0 > 1 - half, np.inf, (x0 + half - mean) / deviation)
    lower = np.where(x0 < -1 + half, -np.inf, (x0 - half - mean) / deviation)
    # The smaller tail of the two, where nothing cancels.
    mirror = lower > 0
    upper, lower = np.where(mirror, -lower, upper), np.where(mirror, -upper, lower)
    return -(norm.logcdf(upper) + np.log(-np.expm1(norm.logcdf(lower) - norm.logcdf(upper))))


def gaussian_images(n: int, c: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return c * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("c", [0.3, 1.0])
def test_the_error_of_gaussian_data_is_the_closed_form(any_process: Process, perfect_denoiser, measure, c) -> None:
    """e(t) = D c² σ̄²/(c² + σ̄²), at every timestep within its own standard error."""
    measured = measure(gaussian_images(1000, c), perfect_denoiser(any_process, c**2))
    level = any_process.noise_level(any_process.grid[1:]).square()
    expected = DIMENSIONS * c**2 * level / (c**2 + level)
    standard_error = measured.error.std(1) / measured.n_images**0.5
    # Common noise makes the timesteps' deviations move together: 4 for the largest of all.
    assert ((measured.error.mean(1) - expected).abs() / standard_error).max() < 4
    torch.testing.assert_close(measured.fitted_error, measured.error.mean(1) / DIMENSIONS)


def test_the_error_of_correlated_data_is_the_sum_over_its_directions(perfect_denoiser, measure) -> None:
    process = Process.cosine(40, 1 / 16)
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64) / 2
    mean = torch.tensor([0.5, -0.2, 0.0, 1.0], dtype=torch.float64)
    images = (mean + torch.randn(3000, 4, generator=generator, dtype=torch.float64) @ root.T).reshape(-1, *SHAPE)
    covariance = root @ root.T
    measured = measure(images, perfect_denoiser(process, covariance, mean))
    level = process.noise_level(process.grid[1:]).square()[:, None]
    eigenvalues = torch.linalg.eigvalsh(covariance)
    expected = (eigenvalues * level / (eigenvalues + level)).sum(1)
    standard_error = measured.error.std(1) / measured.n_images**0.5
    assert ((measured.error.mean(1) - expected).abs() / standard_error).max() < 4


def test_the_decoders_term_is_the_integral_over_the_noise(perfect_denoiser, measure, grey_images) -> None:
    """On given images the denoiser is linear, so the expectation over ε is one Gauss–Hermite sum per pixel."""
    process, c = Process.cosine(40, 1 / 16), 0.6
    image = grey_images(1, SHAPE)
    measured = measure(image.expand(1500, *SHAPE), perfect_denoiser(process, c**2), indices=[1, 2, 6, 20, 40])
    nodes, weights = hermegauss(60)
    weights = weights / weights.sum()
    for row, t in enumerate(measured.times):
        alpha, sigma = process.alpha(t).item(), process.sigma(t).item()
        gain = alpha * c**2 / (alpha**2 * c**2 + sigma**2)
        of_process = process.transition(t, process.grid[2]).posterior_variance.item() if row == 0 else sigma**2
        for measured_nats, variance in (
            (measured.decoder_of_process[row], of_process),
            (measured.decoder_of_error[row], measured.fitted_error[row].item()),
        ):
            means = gain * (alpha * image.flatten().numpy()[:, None] + sigma * nodes)
            pixels = level_nats(image.flatten().numpy()[:, None], means, math.sqrt(variance))
            expected = (pixels * weights).sum()
            standard_error = measured_nats.std().item() / 1500**0.5
            assert abs(measured_nats.mean().item() - expected) < 4 * standard_error + 1e-9 * expected


def crooked(process: Process, seed: int = 1) -> Denoiser:
    """A denoiser that is not linear and not good."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        mixed = torch.tanh(x.flatten(1) @ matrix / (1 + timestep[:, None] / process.T))
        return 0.8 * mixed.reshape(x.shape)

    return Denoiser(network, process, "x0")


def test_every_number_is_that_of_a_plain_loop(any_process: Process, measure, grey_images) -> None:
    """One ε per image, common to all timesteps; judged with the variance fitted on the other images."""
    denoiser = crooked(any_process)
    train = measure(grey_images(9, SHAPE, seed=1), denoiser, indices=[1, 2, 3, 40], seed=5)
    images = grey_images(7, SHAPE, seed=2)
    test = measure(images, denoiser, indices=[1, 3, 40], seed=8, split="test", fitted=train, batch_size=3)
    variance_1, variance_2 = any_process.sigma(any_process.grid[1:3]).square().tolist()
    ratio = (any_process.alpha(any_process.grid[2]) / any_process.alpha(any_process.grid[1])).item() ** 2
    clipped = variance_1 * (variance_2 - ratio * variance_1) / variance_2
    for row, index in enumerate([1, 3, 40]):
        t = any_process.grid[index]
        alpha, sigma = any_process.alpha(t).item(), any_process.sigma(t).item()
        of_process = clipped if index == 1 else sigma**2
        for image in range(7):
            noise = Noise(8, [image_numbers("test", 7)[image]], SHAPE)(0)[0]
            x_t = alpha * images[image] + sigma * noise
            x0 = denoiser(x_t[None], t).x0[0]
            error = (images[image] - x0).square().sum().item()
            assert test.error[row, image].item() == pytest.approx(error, rel=1e-10)
            pixels, means = images[image].flatten().numpy(), x0.flatten().numpy()
            fitted = train.error[train.indices == index].mean().item() / DIMENSIONS
            of_error = level_nats(pixels, means, math.sqrt(fitted)).sum()
            expected = level_nats(pixels, means, math.sqrt(of_process)).sum()
            assert test.decoder_of_process[row, image].item() == pytest.approx(expected, rel=1e-9)
            assert test.decoder_of_error[row, image].item() == pytest.approx(of_error, rel=1e-9)
    assert torch.equal(test.fitted_error, train.fitted_error[[0, 2, 3]])
    assert (test.split, test.fitted_split, test.calls) == ("test", "train", 21)


def test_numbers_do_not_depend_on_the_batch(measure, grey_images) -> None:
    process = Process.linear(40)
    images, denoiser = grey_images(10, SHAPE), crooked(process)
    first, second = (measure(images, denoiser, batch_size=size, indices=[1, 20]) for size in (1, 10))
    torch.testing.assert_close(first.error, second.error, rtol=1e-12, atol=0)
    alone = measure(images[:3], denoiser, indices=[20])
    torch.testing.assert_close(alone.error[0], first.error[1, :3], rtol=1e-12, atol=0)


def test_one_network_call_per_image_and_timestep(measure, grey_images) -> None:
    process = Process.linear(40)
    denoiser = crooked(process)
    measured = measure(grey_images(10, SHAPE), denoiser, batch_size=4)
    assert measured.calls == denoiser.evaluations == 400
    assert denoiser.calls == 40 * 3


def test_a_subset_of_timesteps_is_found_by_its_indices(measure, grey_images) -> None:
    measured = measure(grey_images(3, SHAPE), crooked(Process.linear(40)), indices=[2, 7, 40])
    assert measured.rows([40, 2]).tolist() == [2, 0]
    assert measured.times.tolist() == [2 / 40, 7 / 40, 1.0]
    with pytest.raises(UserError, match=r"lack the timesteps \[3, 41\]"):
        measured.rows([2, 3, 41])


def test_a_network_that_returns_nan_is_a_sentence(measure, grey_images) -> None:
    process = Process.linear(40)
    broken = Denoiser(lambda x, n: torch.where(n[:, None, None, None] == 6, torch.nan, x), process, "x0")
    with pytest.raises(UserError, match="not finite at grid index 7"):
        measure(grey_images(3, SHAPE), broken)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, measure, grey_images) -> None:
    measured = measure(grey_images(5, SHAPE), crooked(Process.cosine(40, 0.1)), indices=[1, 40])
    path = tmp_path / "statistics.safetensors"
    measured.save(path)
    again = DenoisingError.load(path)
    for name in ("indices", "error", "decoder_of_process", "decoder_of_error", "fitted_error", "prior"):
        assert torch.equal(getattr(again, name), getattr(measured, name))
    for name in ("process", "dimensions", "levels", "split", "fitted_split", "seed", "calls"):
        assert getattr(again, name) == getattr(measured, name)


def test_damaged_statistics_are_a_sentence(tmp_path: Path, measure, grey_images) -> None:
    path = tmp_path / "statistics.safetensors"
    measure(grey_images(5, SHAPE), crooked(Process.cosine(40)), indices=[1, 40]).save(path)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"statistics\.safetensors"):
            DenoisingError.load(path)
    with pytest.raises(UserError, match=r"none\.safetensors"):
        DenoisingError.load(tmp_path / "none.safetensors")


def test_another_kind_of_statistics_is_a_sentence(tmp_path: Path, measure, grey_images) -> None:
    path = tmp_path / "statistics.safetensors"
    measure(grey_images(5, SHAPE), crooked(Process.cosine(40)), indices=[1, 40]).save(path)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, {"fewstep": metadata["fewstep"].replace("denoising_error", "trajectories")})
    with pytest.raises(UserError, match="does not hold statistics of the kind denoising_error"):
        DenoisingError.load(path)
    save_file(tensors, path)
    with pytest.raises(UserError, match="cannot be read"):
        DenoisingError.load(path)
