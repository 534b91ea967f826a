"""A training loop that is a plain one, cut short or not, and the validation that goes with it."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.losses.base import Loss
from fewstep.losses.hybrid import HybridLoss
from fewstep.losses.simple import SimpleLoss
from fewstep.losses.vlb import VlbLoss
from fewstep.modules.training import TrainingBatches, TrainingModule, ValidationError
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.time_distribution import SecondMomentTimes, UniformTimes

PROCESS = Process.cosine(40, 1 / 16)
ITERATIONS = 12
LOSSES: list[Loss] = [SimpleLoss(), HybridLoss(17), VlbLoss(17)]


class Scale(nn.Module):
    """Two weights: x · a + b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.a * x + self.b * time[:, None, None, None]


class Heads(Scale):
    """The same as the mean, and as the variance one weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(0.2))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([super().forward(x, time), self.c.expand_as(x)], dim=1)


def error(denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor) -> Tensor:
    return SimpleLoss()(denoiser, x0, times - 1 / 40, times, noise, 40)


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
    measured = error(denoiser, x0, times, noise)
    expected = (seen["output"] - target).square().flatten(1).mean(1)
    torch.testing.assert_close(measured, expected, rtol=1e-3, atol=1e-5)


def test_validation_is_on_fixed_images_times_and_noise() -> None:
    denoiser, times = Denoiser(Scale(), PROCESS, "edm"), PROCESS.grid[[1, 9, 40]]
    measured = ValidationError(real(), times, seed=4).per_image(denoiser, torch.device("cpu"))
    noise = Noise(4, range(10), (1, 2, 2))(0).float()
    expected = sum(error(denoiser, real(), t.expand(10), noise) for t in times) / 3
    torch.testing.assert_close(measured, expected.double(), rtol=1e-6, atol=1e-8)
    assert torch.equal(ValidationError(real(), times, seed=4).per_image(denoiser, torch.device("cpu")), measured)


def test_validation_counts_times_by_their_probabilities() -> None:
    """So that it is the mean of the loss that is trained when times are drawn with them."""
    denoiser, times, cpu = Denoiser(Scale(), PROCESS, "edm"), PROCESS.grid[[1, 9, 40]], torch.device("cpu")
    each = [ValidationError(real(), times[i : i + 1], seed=4).per_image(denoiser, cpu) for i in range(3)]
    for path in (None, PROCESS.grid[[0, 1, 9, 40]]):
        probabilities = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64)
        validation = ValidationError(real(), times, 4, path=path, probabilities=probabilities)
        expected = 0.2 * each[0] + 0.7 * each[1] + 0.1 * each[2]
        torch.testing.assert_close(validation.per_image(denoiser, cpu), expected, rtol=1e-12, atol=0)


def module(network: nn.Module | None = None, loss: Loss = LOSSES[0], process: Process = PROCESS) -> TrainingModule:
    denoiser = Denoiser(network or (Heads() if loss.learns_variance else Scale()), process, "edm")
    data = TrainingBatches(real(), loss.time_distribution(process), 4, seed=0)
    on, off = (ValidationError(real(3), process.grid[indices], 0, loss) for indices in ([1, process.T], [2]))
    return TrainingModule(
        denoiser, data, on, off, learning_rate=0.05, warmup=3, iterations=ITERATIONS, ema_decay=0.6, loss=loss
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
        x0, quantiles, noise = data.batch(i)
        times = PROCESS.grid[1 + (quantiles * 40).long()]
        network.zero_grad()
        error(denoiser, x0, times, noise).mean().backward()
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
def test_training_is_a_plain_loop(tmp_path: Path) -> None:
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


class FewMoments(VlbLoss):
    """The bound, with a memory so short that it samples by importance after a few iterations."""

    def time_distribution(self, process: Process) -> SecondMomentTimes:
        return SecondMomentTimes(process, memory=2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("loss", [*LOSSES, FewMoments(17)], ids=["simple", "hybrid", "vlb", "vlb by importance"])
def test_a_resumed_run_is_an_unbroken_one_to_the_last_bit(loss: Loss, tmp_path: Path) -> None:
    small = Process.cosine(5, 1 / 16)
    unbroken = module(loss=loss, process=small)
    trainer(tmp_path, ITERATIONS).fit(unbroken)
    if isinstance(loss, FewMoments):
        assert unbroken.times.probabilities.std() > 1e-3
    for cut in (3, 8):
        broken = trainer(tmp_path, cut)
        broken.fit(module(loss=loss, process=small))
        broken.save_checkpoint(tmp_path / "part.ckpt")
        resumed = module(loss=loss, process=small)
        trainer(tmp_path, ITERATIONS).fit(resumed, ckpt_path=tmp_path / "part.ckpt", weights_only=False)
        for mine, theirs in zip(resumed.state_dict().values(), unbroken.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_bound_is_trained_at_the_times_that_its_losses_ask_for(tmp_path: Path) -> None:
    """By hand: every loss that was seen is remembered, and the next draw and its weights follow from them."""
    small = Process.cosine(5, 1 / 16)
    trained = module(loss=FewMoments(17), process=small)
    seen: dict[int, list[float]] = {n: [] for n in range(1, 6)}
    calls: list[tuple[list[int], list[float]]] = []

    class Spied(FewMoments):
        def __call__(
            self, denoiser: Denoiser, x0: Tensor, s: Tensor, t: Tensor, noise: Tensor, steps: int
        ) -> Tensor:
            losses = super().__call__(denoiser, x0, s, t, noise, steps)
            if denoiser is trained.denoiser:
                assert torch.equal(s, small.grid[(t * 5).round().long() - 1])
                assert steps == 5
                calls.append(((t * 5).round().long().tolist(), losses.detach().tolist()))
            return losses

    trained.loss = Spied(17)
    trainer(tmp_path, ITERATIONS).fit(trained)
    for i, (drawn, losses) in enumerate(calls):
        size = torch.tensor([math.hypot(*seen[n][-2:]) for n in seen], dtype=torch.float64)
        full = min(len(seen[n]) for n in seen) >= 2
        probabilities = 0.999 * size / size.sum() + 0.0002 if full else torch.full((5,), 0.2).double()
        edges = probabilities.cumsum(0)
        quantiles = trained.batches.batch(i)[1]
        assert drawn == (1 + torch.searchsorted(edges, quantiles, right=True)).tolist()
        for n, loss in zip(drawn, losses, strict=True):
            seen[n].append(loss)
    assert full


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_what_asks_for_no_gradient_stays_as_it_is(tmp_path: Path) -> None:
    trained = module()
    trained.denoiser.backbone.a.requires_grad_(False)
    trainer(tmp_path, ITERATIONS).fit(trained)
    network = trained.denoiser.backbone
    assert network.a.item() == Scale().a.item()
    assert network.b.item() != Scale().b.item()
    (group,) = trained.configure_optimizers()["optimizer"].param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(network.b)]


@pytest.mark.parametrize("loss", LOSSES[1:], ids=lambda loss: loss.name)
def test_validation_on_a_path_is_the_mean_over_its_steps(loss: Loss) -> None:
    """Of all of them, or of some that stand for those before them as well."""
    denoiser, path, x0 = Denoiser(Heads(), PROCESS, "edm"), PROCESS.grid[[0, 2, 9, 20, 40]], real(3)
    noise, cpu = Noise(4, range(3), (1, 2, 2))(0).float(), torch.device("cpu")
    with torch.no_grad():
        terms = [loss(denoiser, x0, s.expand(3), t.expand(3), noise, 4).double() for s, t in pairwise(path)]
    for times, expected in [([1, 2, 3, 4], sum(terms) / 4), ([1, 4], (terms[0] + 3 * terms[3]) / 4)]:
        validation = ValidationError(x0, path[times], 4, loss, path)
        with torch.no_grad():
            torch.testing.assert_close(validation.per_image(denoiser, cpu), expected, rtol=1e-12, atol=0)


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
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_turns_nan_is_a_sentence(tmp_path: Path, value: float, loss: Loss) -> None:
    broken = Heads() if loss.learns_variance else Scale()
    broken.a.data.fill_(value)
    training = module(broken, loss)
    with pytest.raises(UserError, match=r"training loss is (nan|inf) at iteration 0.*Lower the learning rate"):
        trainer(tmp_path, ITERATIONS).fit(training)
    assert all(bool(torch.isfinite(buffer).all()) for buffer in training.buffers())
