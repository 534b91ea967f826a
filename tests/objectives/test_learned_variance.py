"""The learned variance's ELBO from sums at Chebyshev points against KLs of Gaussians, pixel by pixel."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser, Prediction
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.step_terms import image_step_nats
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND
from fewstep.statistics.fraction_sums import BOUND, collect_fraction_sums, measure_fraction_sums
from fewstep.variance import LearnedVariance

SHAPE, LEVELS = (1, 2, 2), 17
RANGES = [(0.0, 1.0), (-0.3, 1.3), (1.0, 1.0), (0.0, 0.0), (0.0, 1e-3), (-1.5, 2.5), (1e-6, 1e-6)]


class TwoHeads(torch.nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        fraction = self.low + (self.high - self.low) * torch.sigmoid(3 * x)
        return torch.cat([torch.tanh(1.1 * x), 2 * fraction - 1], dim=1)


def exact_kl(process: Process, s: Tensor, t: Tensor, residual: Tensor, fraction: Tensor) -> np.ndarray:
    """KL per image in extended precision, [len(s), images], without cancellation."""
    log_variances = process.log_variance(torch.cat([s, t[None]])).numpy().astype(np.longdouble)
    delta = (log_variances[-1] - log_variances[:-1])[:, None, None]
    product = fraction.numpy().astype(np.longdouble) * delta
    series = product**2 / 2 - product**3 / 6 + product**4 / 24 - product**5 / 120
    gap = np.where(np.abs(product) < 1e-3, series, product + np.expm1(-product))
    snr = process.snr_gained(s, t).numpy().astype(np.longdouble)[:, None, None]
    return 0.5 * (gap + snr * residual.numpy() ** 2 * np.exp(-product)).sum(2)


@pytest.mark.parametrize("ends", RANGES, ids=str)
@pytest.mark.parametrize("index", [2, 3, 50, 2000, 3999, 4000])
def test_every_step_is_right_to_the_stated_bound(ends: tuple[float, float], index: int) -> None:
    """Δ = log σ_t²/σ_s² reaches 11.5 on the cosine process of T = 4000."""
    process = Process.cosine(4000)
    generator = torch.Generator().manual_seed(index)
    low, high = ends
    fraction = low + (high - low) * torch.rand(5, 64, generator=generator, dtype=torch.float64)
    t = process.grid[index]
    residual = torch.randn(5, 64, generator=generator, dtype=torch.float64) * process.noise_level(t).clamp(max=0.5)
    sums = collect_fraction_sums([measure_fraction_sums(process, t, residual, fraction)])
    nodes = torch.unique(
        torch.cat([torch.arange(1, min(index, 60)), torch.arange(1, index, 23), torch.tensor([index - 1])])
    )
    s, rows = process.grid[nodes], torch.zeros(len(nodes), dtype=torch.int64)
    expected = exact_kl(process, s, t, residual, fraction)
    found = sums.step_nats(process, s, t.expand(len(s)), rows).numpy()
    assert np.abs(found / expected - 1).max() < BOUND
    mean = sums.mean_step_nats(process, s[:, None], t[None, None], rows[:1]).numpy()[:, 0]
    assert np.abs(mean / expected.mean(1) - 1).max() < BOUND


def test_the_range_that_was_tested_is_the_longest() -> None:
    process = Process.cosine(4000)
    delta = process.log_variance(process.grid[-1]) - process.log_variance(process.grid[1])
    assert 11.5 < delta.item() < 11.6


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.4, 1.4)], ids=str)
def test_table_and_totals_are_sums_of_steps(any_process: Process, measure, grey_images, ends) -> None:
    """One network call per timestep against one per step of every schedule."""
    denoiser = Denoiser(TwoHeads(*ends), any_process, "x0")
    images = grey_images(6, SHAPE, LEVELS)
    statistics, objective = {KIND: measure(images, denoiser, levels=LEVELS)}, ElboObjective("learned")
    table, noise = objective.edge_costs(statistics), Noise(0, range(6), SHAPE)(0)
    for path in ([0, 40], [0, 1, 40], [0, 1, 2, 40], [0, 7, 9, 23, 40], list(range(41))):
        schedule = Schedule.on_grid(path, any_process)
        direct = objective.network_nats(denoiser, images, schedule.times, noise, statistics)
        torch.testing.assert_close(objective.image_values(statistics, schedule), direct, rtol=BOUND, atol=0)
        prior = statistics[KIND].prior.mean().item()
        assert table.total(path) + prior == pytest.approx(direct.mean().item(), rel=BOUND)
    for s, t in pairwise([1, 3, 4, 39]):
        times = any_process.grid[[s, t]]
        prediction = denoiser(any_process.add_noise(images, times[1], noise), times[1])
        step = image_step_nats(any_process, times[0], times[1], images, prediction, LearnedVariance(), LEVELS)
        assert table.costs[s, t].item() == pytest.approx(step.mean().item(), rel=BOUND)


@pytest.mark.parametrize(("fraction", "kind"), [(0.0, "posterior"), (1.0, "beta")])
def test_its_ends_are_the_fixed_kinds(
    any_process: Process, measure, grey_images, fraction: float, kind: str
) -> None:
    """f = 0 is `posterior` and f = 1 is `beta`, but for the decoder at t_1 under f = 1."""
    denoiser = Denoiser(TwoHeads(fraction, fraction), any_process, "x0")
    statistics = {KIND: measure(grey_images(6, SHAPE), denoiser)}
    learned = ElboObjective("learned").edge_costs(statistics).costs
    fixed = ElboObjective(kind).edge_costs(statistics).costs
    columns = slice(2 if fraction else 1, None)
    torch.testing.assert_close(learned[:, columns], fixed[:, columns], rtol=BOUND, atol=0)


def test_a_pixel_has_its_own_variance(any_process: Process) -> None:
    """σ_p² lies between σ̃² and σ²_{t|s} in the logarithm."""
    s, t = any_process.grid[7], any_process.grid[20]
    transition = any_process.transition(s, t)
    fraction = torch.tensor([0.0, 0.25, 1.0, 1.5], dtype=torch.float64).reshape(1, 1, 2, 2)
    low, high = transition.posterior_variance.log(), transition.variance.log()
    expected = torch.exp(fraction * high + (1 - fraction) * low)
    torch.testing.assert_close(LearnedVariance().step(any_process, s, t, fraction), expected)


def test_weights_of_times_are_slopes_in_the_logarithm_of_the_errors(measure, grey_images) -> None:
    """Scaling every pixel's error at one time by 1 + h raises the value by 2h e(t) times its weight."""
    process = Process.cosine(40, 1 / 16)
    denoiser, images = Denoiser(TwoHeads(-0.2, 1.2), process, "x0"), grey_images(6, SHAPE, LEVELS)
    statistics = {KIND: measure(images, denoiser, levels=LEVELS)}
    schedule, noise = Schedule.on_grid([0, 3, 15, 40], process), Noise(0, range(6), SHAPE)(0)
    weights = ElboObjective("learned").time_weights(statistics, schedule)
    for i, (s, t) in enumerate(pairwise(schedule.times[1:]), start=1):
        prediction = denoiser(process.add_noise(images, t, noise), t)

        def nats(h: float, s=s, t=t, prediction=prediction) -> float:
            scaled = Prediction(images - (1 + h) * (images - prediction.x0), prediction.fraction)
            return image_step_nats(process, s, t, images, scaled, LearnedVariance(), LEVELS).mean().item()

        slope = (nats(1e-5) - nats(-1e-5)) / 2e-5
        error = (images - prediction.x0).square().flatten(1).sum(1).mean().item()
        assert 2 * error * weights[i].item() == pytest.approx(slope, rel=1e-5)


def test_what_a_network_without_a_variance_head_is_told(measure, grey_images) -> None:
    process = Process.cosine(40)
    denoiser = Denoiser(lambda x, time: torch.tanh(x), process, "x0")
    statistics = {KIND: measure(grey_images(3, SHAPE), denoiser)}
    for ask in (
        ElboObjective("learned").edge_costs,
        lambda s: ElboObjective("learned").value(s, Schedule([0, 1], process)),
    ):
        with pytest.raises(UserError, match="variance head"):
            ask(statistics)


def test_a_wild_variance_head_is_named() -> None:
    process = Process.cosine(4000)
    fraction = torch.linspace(-300, 300, 8, dtype=torch.float64)[None]
    with pytest.raises(UserError, match=r"fraction runs from -300.* to 300"):
        measure_fraction_sums(process, process.grid[-1], torch.zeros_like(fraction), fraction)


def test_statistics_of_two_heads_survive_their_file(measure, grey_images, tmp_path) -> None:
    process = Process.cosine(40)
    measured = measure(grey_images(4, SHAPE), Denoiser(TwoHeads(0, 1), process, "x0"))
    measured.save(tmp_path / "statistics.safetensors")
    read = type(measured).load(tmp_path / "statistics.safetensors")
    for name, tensor in vars(measured.fraction).items():
        assert torch.equal(tensor, getattr(read.fraction, name))
    assert torch.equal(measured.decoder_of_fraction, read.decoder_of_fraction)
    assert math.isfinite(ElboObjective("learned").value({KIND: read}, Schedule([0, 1], process)))
