"""The first step in improved-diffusion's own arithmetic: its pairs, batches and file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.data.base import image_numbers
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.likelihood import tanh_discretised_gaussian_nats
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.statistics.tanh_decoder import TanhDecoder, TanhDecoderEstimator

PROCESS, N, SHAPE = Process.cosine(40), 7, (1, 4, 4)
PAIRS = [(9, 20), (3, 5), (3, 40)]
FITTED = torch.tensor([0.2, 0.1, 0.1], dtype=torch.float64)


class TwoHeads(torch.nn.Module):
    """An arbitrary smooth network with a variance head."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([1.2 * torch.tanh(x), torch.sin(2 * x)], dim=1)


@pytest.fixture
def images(grey_images: Callable[..., Tensor]) -> Tensor:
    return grey_images(N, SHAPE).float()


def measure(images: Tensor, batch_size: int) -> TanhDecoder:
    denoiser = Denoiser(TwoHeads(), PROCESS, "x0")
    estimator = TanhDecoderEstimator(
        images, None, pairs=PAIRS, fitted_error=FITTED, split="test", levels=17, seed=2, batch_size=batch_size
    )
    measured = estimator.collect(PROCESS, [estimator.measure(denoiser, row) for row in range(len(estimator))])
    assert denoiser.evaluations == measured.calls == N * 2  # once for each distinct n_1
    return measured


def test_every_pair_has_its_own_variance(images: Tensor) -> None:
    measured, noise = measure(images, N), Noise(2, image_numbers("test", N), SHAPE)(0).float()
    for (first, second), error in zip(PAIRS, FITTED, strict=True):
        t, later = PROCESS.grid[first], PROCESS.grid[second]
        x_t = PROCESS.add_noise(images, t, noise)
        predicted, fraction = (1.2 * torch.tanh(x_t)).clamp(-1, 1), (torch.sin(2 * x_t) + 1) / 2
        low, high = PROCESS.transition(t, later).posterior_variance.log(), PROCESS.sigma(t).square().log()
        log_variances = {
            "posterior": low,
            "beta": low,
            "learned": fraction * high + (1 - fraction) * low,
            "optimal": error.log(),
        }
        for variance, log_variance in log_variances.items():
            expected = tanh_discretised_gaussian_nats(images, predicted, log_variance.float(), 17)
            torch.testing.assert_close(measured.image_nats(variance, first, second), expected, rtol=1e-5, atol=0)


def test_no_term_depends_on_the_batches(images: Tensor) -> None:
    whole, parts = measure(images, N), measure(images, 3)
    assert torch.equal(whole.of_process, parts.of_process)
    assert whole.of_fraction is not None
    assert torch.equal(whole.of_fraction, parts.of_fraction)


def test_what_is_saved_is_loaded(images: Tensor, tmp_path: Path) -> None:
    measured = measure(images, N)
    measured.save(tmp_path / "terms")
    loaded = TanhDecoder.load(tmp_path / "terms")
    assert (loaded.process, loaded.split, loaded.seed, loaded.calls) == (PROCESS, "test", 2, 14)
    for variance in ("posterior", "learned", "optimal"):
        for pair in PAIRS:
            assert torch.equal(loaded.image_nats(variance, *pair), measured.image_nats(variance, *pair))


def test_a_schedule_that_was_not_measured_is_named(images: Tensor) -> None:
    with pytest.raises(UserError, match="first nodes are the timesteps 3 and 20"):
        measure(images, N).image_nats("beta", 3, 20)
