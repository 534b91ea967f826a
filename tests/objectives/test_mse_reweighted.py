"""L_w(s, t) = (t − s) e(t): closed forms, brute force over paths, and its own gradient."""

import itertools

import pytest
import torch

from fewstep.noise import Noise
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.statistics.denoising_error import KIND

SHAPE = (1, 2, 2)


def test_gaussian_data_have_a_closed_form(any_process: Process, perfect_denoiser, measure) -> None:
    """With e(t) = D c² σ̄²/(c² + σ̄²) every entry is that times a length, on images of just that error."""
    generator = torch.Generator().manual_seed(0)
    images = 0.5 * torch.randn(4000, *SHAPE, generator=generator, dtype=torch.float64)
    measured = measure(images, perfect_denoiser(any_process, 0.25))
    table = MseReweighted().edge_costs({KIND: measured})
    level = any_process.noise_level(any_process.grid[1:]).square()
    expected = 4 * 0.25 * level / (0.25 + level)
    error = measured.error.std(1) / 4000**0.5
    for s, t in [(0, 1), (0, 40), (3, 17), (39, 40)]:
        length = (t - s) / 40
        assert abs(table.costs[s, t].item() - length * expected[t - 1].item()) < 4 * length * error[t - 1].item()


def test_no_path_of_three_steps_costs_less(perfect_denoiser, measure, grey_images) -> None:
    process = Process.linear(22)
    denoiser = perfect_denoiser(process, 0.3)
    statistics = {KIND: measure(grey_images(6, SHAPE), denoiser)}
    objective = MseReweighted()
    found = Dp()(objective, statistics, denoiser, [3])[3]
    paths = [[0, i, j, 22] for i, j in itertools.combinations(range(1, 22), 2)]
    least = min(paths, key=lambda path: objective.value(statistics, Schedule.on_grid(path, process)))
    assert found.indices == least
    assert objective.edge_costs(statistics).total(least) == pytest.approx(
        objective.value(statistics, found), rel=1e-12
    )


def test_its_gradient_is_that_of_central_differences(perfect_denoiser, measure, grey_images) -> None:
    process = Process.cosine(40, 1 / 16)
    denoiser, images, noise = perfect_denoiser(process, 0.3), grey_images(5, SHAPE), Noise(0, range(5), SHAPE)(0)
    objective, times = MseReweighted(), torch.tensor([0, 0.11, 0.33, 0.71, 1], dtype=torch.float64)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return objective.loss(denoiser, images, at, noise, {})

    moving = times.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(moving), moving)
    for i in (1, 2, 3):
        step = torch.zeros(5, dtype=torch.float64)
        step[i] = 1e-6
        difference = (loss(times + step) - loss(times - step)).item() / 2e-6
        assert slope[i].item() == pytest.approx(difference, rel=1e-5)
