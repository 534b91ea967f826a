"""What the gradient search is made of: gaps, descents, single images' losses, and the check between timesteps."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.base import Objective
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.between_timesteps import WILD, between_timesteps
from fewstep.search.descent import Descent
from fewstep.search.free_gaps import FreeGaps
from fewstep.search.image_losses import image_losses
from fewstep.search.optimality_gap import OptimalityGap
from fewstep.statistics.denoising_error import DenoisingError
from fewstep.statistics.samples import Samples

# Gaps


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=30), st.sampled_from([17, 256]))
def test_any_logits_make_a_schedule(logits: list[float], levels: int) -> None:
    for process in (Process.linear(1000), Process.cosine(50), Process.edm(300)):
        gaps = FreeGaps(process, levels, 0.5, len(logits))
        times = gaps.times(torch.tensor(logits, dtype=torch.float64))
        schedule = Schedule(times, process)  # refuses times that do not ascend
        assert process.noise_level(schedule.times[1]) > 1 / (levels - 1) * (1 - 1e-9)
        path = gaps.snapped(times)
        assert Schedule.on_grid(path, process).steps == len(logits)
        apart = (process.grid[path] - times).abs().max() * process.T
        assert apart <= len(logits)  # each is next to its time, but where several are there


def test_times_come_back_from_their_logits(any_process: Process) -> None:
    gaps = FreeGaps(any_process, 17, 0.5, 5)
    nodes = any_process.time_of_log_snr(-2 * torch.tensor([0.15, 0.3, 0.8, 2.0], dtype=torch.float64).log())
    times = torch.cat([nodes.new_zeros(1), nodes, nodes.new_ones(1)])
    assert gaps.times(gaps.logits(times)).tolist() == pytest.approx(times.tolist(), abs=1e-4)


def test_gaps_that_are_too_small_are_widened(any_process: Process) -> None:
    """To a thousandth of the even gap, on the axis log(1 + c² SNR)."""
    gaps = FreeGaps(any_process, 17, 0.5, 3)
    nodes = any_process.time_of_log_snr(-2 * torch.tensor([0.5, 0.5 + 1e-9], dtype=torch.float64).log())
    times = gaps.times(gaps.logits(torch.cat([nodes.new_zeros(1), nodes, nodes.new_ones(1)])))
    y = torch.log1p(0.25 * any_process.snr(times[1:]))
    ends = torch.log1p(0.25 * any_process.snr(any_process.grid[[1, -1]])).clamp(max=math.log1p(0.25 * 16**2))
    assert (y[0] - y[1]).item() == pytest.approx(1e-3 / 3 * (ends[0] - ends[1]).item(), rel=0.01)


def test_even_logits_are_even_in_log_one_plus_the_signals_variance() -> None:
    """y = log(1 + c² SNR), from half a grey level to T."""
    process, c = Process.edm(500, 0.01, 60.0), 0.4
    times = FreeGaps(process, 17, c, 4).times(torch.zeros(4, dtype=torch.float64))
    y = torch.log1p((c / process.noise_level(times[1:])) ** 2).tolist()
    first, last = math.log1p((c * 16) ** 2), math.log1p((c / 60) ** 2)
    assert y == pytest.approx([first + (last - first) * i / 4 for i in (1, 2, 3, 4)], abs=1e-6)


def test_the_slope_of_the_times_is_that_of_differences(any_process: Process) -> None:
    gaps = FreeGaps(any_process, 17, 0.5, 4)
    logits = torch.tensor([0.3, -0.5, 0.2, 0.7], dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(gaps.times, logits)
    for i in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[i] = 1e-7
        difference = (gaps.times(logits + step) - gaps.times(logits - step)) / 2e-7
        assert slopes[:, i].tolist() == pytest.approx(difference.tolist(), rel=1e-5, abs=1e-8)


# Descents


def test_a_descent_keeps_its_best_and_stops_when_validation_does_not_fall() -> None:
    made: list[int] = []

    def validate(point: Tensor) -> float:
        return (point - 0.5).square().sum().item()  # best on the way to the minimum of the loss, at 2

    descent = Descent(iterations=60, learning_rate=0.2, warmup=2, validate_every=2, patience=2)
    found = descent(torch.zeros(1), lambda point, _: (point - 2).square().sum(), validate, made.append)
    assert found.point.item() == pytest.approx(0.5, abs=0.3)
    assert found.score == validate(found.point)
    assert found.iterations < 20
    assert sum(made) == 60  # what was saved is told too


def test_a_start_that_no_iterate_betters_is_kept() -> None:
    start = torch.tensor([3.0])
    found = Descent(5, 0.1, 0, 1, 9)(start, lambda p, _: p.sum(), lambda p: -p.item(), lambda n: None)
    assert torch.equal(found.point, start)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named(value: float) -> None:
    descent = Descent(5, 0.1, 0, 1, 1)
    with pytest.raises(UserError, match="not finite"):
        descent(torch.zeros(2), lambda p, _: (p * value).sum(), lambda p: 0.0, lambda n: None)


# Single images


class Small(nn.Module):
    """A float32 network with a variance head, nothing like linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.tanh(self.layer(x) + time.reshape(-1, 1, 1, 1) / 40)


@pytest.mark.parametrize(
    "make", [Discretization, *(lambda v=v: ElboObjective(v) for v in ("posterior", "optimal", "learned"))]
)
def test_every_image_has_the_loss_that_it_has_alone(
    make: Callable[[], Objective], measure: Callable[..., DenoisingError], grey_images: Callable[..., Tensor]
) -> None:
    """At K network calls for all of them, and off the grid too."""
    process, images = Process.cosine(40, 0.07), grey_images(7, (1, 4, 4))
    denoiser, objective = Denoiser(Small(), process, "eps"), make()
    statistics = {"denoising_error": measure(images, denoiser)}
    samples = Samples(
        process=process, x0=images, noise=Noise(1, range(7), (1, 4, 4))(0), levels=17, split="train", seed=1
    )
    times = torch.tensor([0, 3.4, 12.7, 40], dtype=torch.float64) / 40
    before = denoiser.calls, denoiser.evaluations
    losses = image_losses(objective, denoiser, samples, times, statistics, batch_size=5)
    assert (denoiser.calls - before[0], denoiser.evaluations - before[1]) == (2 * 3, 7 * 3)
    with torch.no_grad():
        alone = [
            objective.loss(denoiser, images[b : b + 1], times, samples.noise[b : b + 1], statistics).item()
            for b in range(7)
        ]
        together = objective.loss(denoiser, images, times, samples.noise, statistics).item()
    assert losses.tolist() == pytest.approx(alone, rel=1e-5)
    assert losses.mean().item() == pytest.approx(together, rel=1e-5)


def test_the_gap_is_a_share_with_the_error_of_paired_differences() -> None:
    best = torch.tensor([-1.0, -2.0, -5.0, -8.0], dtype=torch.float64)
    losses = best + torch.tensor([0.1, 0.2, 0.1, 0.2], dtype=torch.float64)
    gap = OptimalityGap.of(losses, best)
    assert gap.value == pytest.approx(0.15 / 4)
    assert gap.standard_error == pytest.approx(math.sqrt(4 * 0.05**2 / 3 / 4) / 4)
    assert gap.n_images == 4


@pytest.mark.parametrize(
    "value, error, named", [(0.009, 0.0, False), (0.02, 0.005, True), (0.02, 0.011, False), (-0.5, 0.0, False)]
)
def test_a_local_minimum_is_above_one_percent_and_above_twice_its_error(
    value: float, error: float, named: bool
) -> None:
    assert OptimalityGap(value, error, 100).local_minimum == named


# Between timesteps


def gaussian_samples(process: Process, c: float) -> Samples:
    """One pixel whose moments are exactly those of N(0, c²) data and of noise, uncorrelated."""
    x0 = c * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).reshape(4, 1, 1, 1)
    noise = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).reshape(4, 1, 1, 1)
    return Samples(process=process, x0=x0, noise=noise, levels=17, split="train", seed=0)


def test_the_exact_denoisers_slope_is_the_closed_forms(perfect_denoiser: Callable[..., Denoiser]) -> None:
    """e = c²σ²/(c² + σ²), so that d log e/dλ = −c²/(c² + σ²)."""
    process, c = Process.cosine(1000, 1 / 16), 0.5
    found = between_timesteps(perfect_denoiser(process, c**2), gaussian_samples(process, c), 17)
    expected = -(c**2) / (c**2 + process.noise_level(found.times) ** 2)
    assert len(found.times) == 8
    assert found.slope.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.grid_slope.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert found.wild == []


class Rippled(nn.Module):
    """Four fifths of the exact denoiser, but for a ripple that vanishes at every trained timestep."""

    def __init__(self, exact: Any, size: float, frequency: float) -> None:
        super().__init__()
        self.exact, self.size, self.frequency = exact, size, frequency

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        ripple = torch.sin(self.frequency * math.pi * time).reshape(-1, 1, 1, 1)
        return self.exact(x, time) * (0.8 + self.size * ripple)


@pytest.mark.parametrize("size, wild", [(1e-6, False), (0.05, True)])
@pytest.mark.parametrize("frequency", [2, 1])  # steepest in the middle between timesteps, and flat there
def test_a_network_with_a_ripple_between_its_timesteps_is_named(
    size: float, wild: bool, frequency: float, perfect_denoiser: Callable[..., Denoiser]
) -> None:
    """On the grid, and in its table, nothing shows."""
    process, c = Process.cosine(1000, 1 / 16), 0.5
    exact = perfect_denoiser(process, c**2)
    rippled = Denoiser(Rippled(exact.backbone, size, frequency), process, "x0")
    samples = gaussian_samples(process, c)
    t = process.grid[300]
    x_t = process.add_noise(samples.x0, t, samples.noise)
    assert rippled(x_t, t).x0.flatten().tolist() == pytest.approx((0.8 * exact(x_t, t).x0).flatten().tolist())
    found = between_timesteps(rippled, samples, 17)
    assert bool(found.wild) == wild
    assert set(found.wild) == set(found.times[found.difference > WILD].tolist())
