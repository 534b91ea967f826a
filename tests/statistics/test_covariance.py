"""The linear denoiser against its direct application and every other linear one; the covariance as statistics."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.find_schedule import find_schedule
from fewstep.process import Process
from fewstep.statistics.covariance import DataCovariance, Estimator, MeasuredCovariance, load

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


# As a kind of statistics

PROCESS = Process.cosine(20, 1 / 16)


def measured(images: Tensor, denoiser: Denoiser) -> MeasuredCovariance:
    estimator = Estimator(images, None, split="train", levels=17, indices=range(1, 21), seed=0, batch_size=4)
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
    return estimator.collect(denoiser.process, rows)


def same(one: MeasuredCovariance, other: MeasuredCovariance) -> bool:
    tensors = all(torch.equal(tensor, getattr(other.data, name)) for name, tensor in vars(one.data).items())
    facts = ("process", "n_images", "split", "calls")
    return tensors and all(getattr(one, name) == getattr(other, name) for name in facts)


@pytest.fixture
def statistics() -> MeasuredCovariance:
    return measured(correlated(50)[0], Denoiser(lambda x, time: x, PROCESS, "x0"))


def test_it_is_the_covariance_and_takes_no_network_call() -> None:
    images, _ = correlated(50)
    denoiser = Denoiser(lambda x, time: x, PROCESS, "x0")
    found, direct = measured(images, denoiser), DataCovariance.of(images)
    assert (denoiser.calls, found.calls, found.n_images, found.split) == (0, 0, 50, "train")
    assert found.process == PROCESS
    assert all(torch.equal(tensor, getattr(found.data, name)) for name, tensor in vars(direct).items())


def test_a_gradient_passes_what_was_measured_in_inference_mode(statistics: MeasuredCovariance) -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (scale.square() * statistics.data.eigenvalues).sum().backward()
    assert scale.grad is not None
    assert scale.grad.item() == pytest.approx(2 * statistics.data.eigenvalues.sum().item())


def test_it_comes_back_from_its_file(statistics: MeasuredCovariance, tmp_path: Path) -> None:
    statistics.save(tmp_path / "file")
    assert same(load(tmp_path / "file"), statistics)


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda tensors: tensors["eigenvalues"].neg_(), "holds a negative variance"),
        (lambda tensors: tensors["eigenvectors"].fill_(torch.nan), "Its eigenvectors holds NaN"),
        (lambda tensors: tensors.update(mean=torch.zeros(3, dtype=torch.float64)), "has shape"),
        (lambda tensors: tensors.pop("mean"), "cannot be read"),
    ],
    ids=["negative", "NaN", "shape", "lacking"],
)
def test_a_spoilt_file_is_refused(
    spoil: Callable[[dict[str, Tensor]], object], sentence: str, statistics: MeasuredCovariance, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    statistics.save(path)
    header = _header(path)
    tensors = {name: tensor.clone() for name, tensor in vars(statistics.data).items()}
    spoil(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, header)
    with pytest.raises(UserError, match=sentence):
        load(path)


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(UserError, match="at least 2 images; given were 1"):
        Estimator(torch.zeros(1, 1, 2, 2), split="train")


def test_the_face_finds_a_schedule_without_a_network_call(grey_images: Callable[..., Tensor]) -> None:
    denoiser = Denoiser(lambda x, time: x, PROCESS, "x0")
    images = grey_images(40)
    found = find_schedule(
        denoiser, PROCESS, images, [3], objective="gaussian_transport", levels=17, progress=False
    )[3]
    assert denoiser.calls == 0
    assert found.steps == 3
    assert found.provenance["objective"] == "gaussian_transport"
