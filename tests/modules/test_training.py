"""Training data that belong to (seed, iteration), and a training loop that is a plain one, cut short or not."""

import copy
import math
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.modules import training
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError, weighted_error
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.time_distribution import UniformTimes

PROCESS = Process.cosine(40, 1 / 16)
ITERATIONS = 12


class Quantiles:
    """A time distribution that shows the quantiles that it is asked for."""

    def times(self, quantiles: Tensor) -> Tensor:
        return quantiles


def numbered(n: int) -> Tensor:
    """Image i is all i."""
    return torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 2, 2)


def batches(n: int = 10, batch_size: int = 4, seed: int = 0) -> TrainingBatches:
    return TrainingBatches(numbered(n), Quantiles(), batch_size, seed)


def rows(data: TrainingBatches, iterations: int) -> list[int]:
    return torch.cat([data.batch(i)[0][:, 0, 0, 0] for i in range(iterations)]).int().tolist()


@given(st.integers(0, 10_000), st.integers(0, 2**31))
def test_a_batch_is_a_function_of_seed_and_iteration(iteration: int, seed: int) -> None:
    data = batches(seed=seed)
    data.batch(3)
    for mine, again in zip(data.batch(iteration), batches(seed=seed).batch(iteration), strict=True):
        assert torch.equal(mine, again)


def test_a_resumed_run_draws_what_an_unbroken_one_would() -> None:
    unbroken = list(islice(iter(batches()), 9))
    resumed = batches()
    resumed.first = 5
    for mine, theirs in zip(islice(iter(resumed), 4), unbroken[5:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 100))
def test_every_epoch_is_a_permutation(n: int, batch_size: int, seed: int) -> None:
    """Also where an epoch ends within a batch, or a batch holds several epochs."""
    seen = rows(batches(n, batch_size, seed), -(-4 * n // batch_size))
    for epoch in range(4):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = rows(batches(50, 10, seed=0), 10)
    assert first[:50] != first[50:]
    assert first != rows(batches(50, 10, seed=1), 10)


def test_times_are_stratified_and_uniform() -> None:
    """One quantile in every one of batch_size equal strata, in random order."""
    data = batches(batch_size=8)
    quantiles = torch.stack([data.batch(i)[1] for i in range(400)])
    assert quantiles.dtype == torch.float64
    strata = (quantiles * 8).floor()
    assert torch.equal(strata.sort(1).values, torch.arange(8).expand(400, 8).double())
    inside = quantiles * 8 - strata
    for sample in (quantiles[:, 0], quantiles[:, 5], inside[:, 0]):
        assert abs(sample.mean().item() - 0.5) < 4 / math.sqrt(12 * 400)
    assert abs(np.corrcoef(quantiles[:, 0], quantiles[:, 1])[0, 1] + 1 / 7) < 4 / 20


def test_the_last_stratum_stays_below_one() -> None:
    """A batch whose offset, 0.9999966, rounds to 1 in float32 beside the number of its stratum, 255."""
    data = TrainingBatches(torch.zeros(3, 1, 1, 1), Quantiles(), 256, seed=0)
    quantiles = data.batch(17_665)[1]
    assert 0.99999 < quantiles.max() < 1
    assert UniformTimes(PROCESS).times(quantiles).max() == 1


def test_noise_is_normal_and_new_in_every_iteration() -> None:
    noise = torch.stack([batches(batch_size=16).batch(i)[2].flatten() for i in range(100)]).double()
    n = noise.numel()
    assert abs(noise.mean().item()) < 4 / math.sqrt(n)
    assert abs(noise.square().mean().item() - 1) < 4 * math.sqrt(2 / n)
    correlation = np.corrcoef(noise) - np.eye(100)
    assert np.abs(correlation).max() < 5.5 / 8
    assert np.sqrt((correlation**2).mean()) == pytest.approx(1 / 8, rel=0.1)


def test_devices_share_a_batch_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(batch_size=7).batch(3)
    monkeypatch.setattr(training, "world", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(training, "rank", lambda rank=rank: rank)
        for part, everything in zip(batches(batch_size=7).batch(3), whole, strict=True):
            assert torch.equal(part, everything[rank::3])


class Scale(nn.Module):
    """Two weights: x · a + b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.a * x + self.b * time[:, None, None, None]


def real(n: int = 10) -> Tensor:
    return torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["eps", "v", "x0", "edm"])
def test_the_loss_is_the_error_of_the_networks_own_output(name: str) -> None:
    """The mean over pixels of (F − F*)², F* being the output that would give x_0."""
    denoiser = Denoiser(Scale(), PROCESS, name)
    x0, noise, times = real(), real().flip(0), PROCESS.grid[1:11]
    alpha, sigma = (f(times).float()[:, None, None, None] for f in (PROCESS.alpha, PROCESS.sigma))
    x_t = alpha * x0 + sigma * noise
    c = 0.5
    z, level = x_t / alpha, sigma / alpha
    skip, out = c**2 / (level**2 + c**2), level * c / (level**2 + c**2).sqrt()
    target = {"eps": noise, "v": alpha * noise - sigma * x0, "x0": x0, "edm": (x0 - skip * z) / out}[name]
    seen = {}
    denoiser.backbone.register_forward_hook(lambda module, inputs, output: seen.update(output=output))
    error = weighted_error(denoiser, x0, times, noise)
    expected = (seen["output"] - target).square().flatten(1).mean(1)
    torch.testing.assert_close(error, expected, rtol=1e-3, atol=1e-5)


def test_validation_is_on_fixed_images_times_and_noise() -> None:
    denoiser, times = Denoiser(Scale(), PROCESS, "edm"), PROCESS.grid[[1, 9, 40]]
    measured = ValidationError(real(), times, seed=4).per_image(denoiser, torch.device("cpu"))
    noise = Noise(4, range(10), (1, 2, 2))(0).float()
    expected = sum(weighted_error(denoiser, real(), t.expand(10), noise) for t in times) / 3
    torch.testing.assert_close(measured, expected.double(), rtol=1e-6, atol=1e-8)
    assert torch.equal(ValidationError(real(), times, seed=4).per_image(denoiser, torch.device("cpu")), measured)


def module(network: nn.Module | None = None) -> TrainingModule:
    denoiser = Denoiser(network or Scale(), PROCESS, "edm")
    data = TrainingBatches(real(), UniformTimes(PROCESS), 4, seed=0)
    on, off = (ValidationError(real(3), PROCESS.grid[indices], 0) for indices in ([1, 40], [20]))
    return TrainingModule(
        denoiser, data, on, off, learning_rate=0.05, warmup=3, iterations=ITERATIONS, ema_decay=0.6
    )


def trainer(folder: Path, iterations: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=iterations,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
    )


def plain_loop(iterations: int) -> tuple[list[float], list[float]]:
    """Adam and a moving average by hand; the weights and their average after the last iteration."""
    network = Scale()
    denoiser = Denoiser(network, PROCESS, "edm")
    data = TrainingBatches(real(), UniformTimes(PROCESS), 4, seed=0)
    moments = {name: (torch.zeros(()), torch.zeros(())) for name, _ in network.named_parameters()}
    average = None
    for i in range(iterations):
        x0, times, noise = data.batch(i)
        network.zero_grad()
        weighted_error(denoiser, x0, times, noise).mean().backward()
        rise, fall = min(1, (i + 1) / 3), 0.5 * (1 + math.cos(math.pi * max(0, 2 * i / ITERATIONS - 1)))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                first, second = moments[name]
                first, second = 0.9 * first + 0.1 * weight.grad, 0.999 * second + 0.001 * weight.grad**2
                moments[name] = first, second
                step = first / (1 - 0.9 ** (i + 1)) / ((second / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
                weight -= 0.05 * rise * fall * step
        now = [weight.item() for weight in network.parameters()]
        decay = min(0.6, (2 + i) / (11 + i))
        before = now if average is None else average
        average = [decay * a + (1 - decay) * w for a, w in zip(before, now, strict=True)]
    return now, average


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_training_is_a_plain_loop_and_a_resumed_one_the_same_to_the_last_bit(tmp_path: Path) -> None:
    unbroken = module()
    running = trainer(tmp_path, ITERATIONS)
    running.fit(unbroken)
    weights, average = plain_loop(ITERATIONS)
    assert [p.item() for p in unbroken.denoiser.parameters()] == pytest.approx(weights, rel=1e-4)
    assert [p.item() for p in unbroken.averaged_denoiser.parameters()] == pytest.approx(average, rel=1e-4)
    cpu = torch.device("cpu")
    for name, validation in (("validation/on", unbroken.on), ("validation/off", unbroken.off)):
        expected = validation.per_image(unbroken.averaged_denoiser, cpu).mean().item()
        assert running.callback_metrics[name].item() == pytest.approx(expected, rel=1e-5)

    broken = trainer(tmp_path, 5)
    broken.fit(module())
    broken.save_checkpoint(tmp_path / "half.ckpt")
    resumed = module()
    trainer(tmp_path, ITERATIONS).fit(resumed, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    for mine, theirs in zip(resumed.state_dict().values(), unbroken.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_learning_rate_rises_holds_and_falls() -> None:
    long = module()
    long.warmup, long.iterations = 10, 1000
    factor: Callable[[int], float] = long._learning_rate_factor
    assert [factor(i) for i in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert {factor(i) for i in range(9, 501)} == {1.0}
    assert factor(750) == pytest.approx(0.5)
    assert factor(1000) == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise([factor(i) for i in range(501, 1001)]))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_turns_nan_is_a_sentence(tmp_path: Path, value: float) -> None:
    broken = copy.deepcopy(Scale())
    broken.a.data.fill_(value)
    with pytest.raises(UserError, match=r"training loss is (nan|inf) at iteration 0.*Lower the learning rate"):
        trainer(tmp_path, ITERATIONS).fit(module(broken))
