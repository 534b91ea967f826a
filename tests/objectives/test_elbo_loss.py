"""The ELBO's Monte Carlo form, its slopes, the path that the programme picks, and what cannot be asked."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import optimal_paths
from fewstep.statistics.denoising_error import KIND

SHAPE, DIMENSIONS = (1, 2, 2), 4
VARIANCES = ["posterior", "beta", "optimal"]
PATHS = [[0, 40], [0, 1, 40], [0, 1, 2, 40], [0, 7, 9, 23, 40], list(range(41))]


def crooked(process: Process) -> Denoiser:
    """A poor denoiser, nothing like linear."""
    weights = torch.randn(DIMENSIONS, DIMENSIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        mixed = torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None] / process.T))
        return 0.8 * mixed.reshape(x.shape)

    return Denoiser(network, process, "x0")


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_monte_carlo_form_is_the_tables_total(any_process: Process, measure, grey_images, kind: str) -> None:
    """On the same images, noise and grid times."""
    denoiser, images = crooked(any_process), grey_images(5, SHAPE)
    statistics = {KIND: measure(images, denoiser, seed=9)}
    noise = Noise(9, range(5), SHAPE)(0)
    objective = ElboObjective(kind)
    table = objective.edge_costs(statistics)
    for path in PATHS:
        schedule = Schedule.on_grid(path, any_process)
        loss = objective.loss(denoiser, images, schedule.times, noise, statistics).item()
        assert loss == pytest.approx(objective.value(statistics, schedule), rel=1e-10)
        assert loss == pytest.approx(table.total(path) + statistics[KIND].prior.mean().item(), rel=1e-10)


@pytest.mark.parametrize("kind", ["posterior", "beta"])
def test_the_gradient_in_the_times(any_process: Process, measure, grey_images, kind: str) -> None:
    """Equal to central differences off the grid, for images that hold black and white."""
    denoiser, images = crooked(any_process), grey_images(5, SHAPE)
    images.view(-1)[:2] = torch.tensor([-1.0, 1.0])
    statistics = {KIND: measure(images, denoiser)}
    noise, objective = Noise(0, range(5), SHAPE)(0), ElboObjective(kind)
    times = torch.tensor([0, 3.4, 12.7, 28.2, 40], dtype=torch.float64) / 40

    def loss(at: Tensor) -> Tensor:
        return objective.loss(denoiser, images, at, noise, statistics)

    moving = times.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(moving), moving)
    assert bool(torch.isfinite(slope).all())
    assert slope[0] == 0
    for i in (1, 2, 3):
        step = torch.zeros(5, dtype=torch.float64)
        step[i] = 1e-6
        difference = (loss(times + step) - loss(times - step)).item() / 2e-6
        assert slope[i].item() == pytest.approx(difference, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_gradient_is_finite_on_the_grid(any_process: Process, measure, grey_images, kind: str) -> None:
    denoiser, images = crooked(any_process), grey_images(5, SHAPE)
    statistics = {KIND: measure(images, denoiser)}
    times = any_process.grid[[0, 1, 2, 40]].clone().requires_grad_()
    noise = Noise(0, range(5), SHAPE)(0)
    loss = ElboObjective(kind).loss(denoiser, images, times, noise, statistics)
    (slope,) = torch.autograd.grad(loss, times)
    assert bool(torch.isfinite(slope).all())
    assert bool((slope[2:] != 0).all())


@pytest.mark.parametrize("kind", VARIANCES)
def test_time_weights_are_the_slopes_in_the_errors(any_process: Process, measure, grey_images, kind: str) -> None:
    """∂ value/∂ e(t_i) by differentiation through the whole value, the variance held."""
    measured = measure(grey_images(5, SHAPE), crooked(any_process))
    schedule, objective = Schedule.on_grid([0, 2, 9, 23, 40], any_process), ElboObjective(kind)
    error = measured.error.clone().requires_grad_()
    value = objective.image_values({KIND: dataclasses.replace(measured, error=error)}, schedule).mean()
    (slope,) = torch.autograd.grad(value, error)
    weights = objective.time_weights({KIND: measured}, schedule)
    torch.testing.assert_close(weights[1:], slope.sum(1)[[8, 22, 39]], rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_decoders_weight_is_its_slope_where_levels_are_fine(measure, grey_images, kind: str) -> None:
    """With narrow bins −log P = error/(2σ²) + constant, whose slope in the error is ½/σ²."""
    process = Process.cosine(40, 1 / 16)
    measured = measure(grey_images(5, SHAPE), crooked(process))
    variance = measured.variance(kind).decoder(process, process.grid[5]).item()
    density = norm(0, math.sqrt(variance))
    slope = (density.logpdf(0.1) - density.logpdf(0.3)) / (0.3**2 - 0.1**2)
    weights = ElboObjective(kind).time_weights({KIND: measured}, Schedule.on_grid([0, 5, 40], process))
    assert weights[0].item() == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("kind", VARIANCES)
def test_the_programmes_path_has_the_least_value(measure, grey_images, kind: str) -> None:
    """Among all schedules of three steps, whole ELBOs compared."""
    process = Process.linear(22)
    statistics = {KIND: measure(grey_images(8, SHAPE), crooked(process))}
    objective = ElboObjective(kind)
    best = optimal_paths(objective.edge_costs(statistics).costs, [3])[3]
    candidates = [[0, i, j, 22] for i in range(1, 21) for j in range(i + 1, 22)]
    values = [objective.value(statistics, Schedule.on_grid(path, process)) for path in candidates]
    assert best == candidates[int(np.argmin(values))]


def test_what_cannot_be_asked(measure, grey_images) -> None:
    process = Process.cosine(40)
    with pytest.raises(UserError, match="'guessed'; allowed are posterior, beta, optimal, learned"):
        ElboObjective("guessed")
    with pytest.raises(UserError, match="'clipped'; allowed are additive, improved_diffusion"):
        ElboObjective("beta", "clipped")
    statistics = {KIND: measure(grey_images(3, SHAPE), crooked(process), indices=[3, 40])}
    with pytest.raises(UserError, match="cannot be used with"):
        ElboObjective("beta").value(statistics, Schedule([0, 1], Process.cosine(41)))


def test_the_table_needs_every_timestep_and_a_value_its_own(measure, grey_images) -> None:
    process = Process.cosine(40)
    partial = {KIND: measure(grey_images(3, SHAPE), crooked(process), indices=[3, 40])}
    with pytest.raises(UserError, match="at all 40 timesteps; given were 2"):
        ElboObjective("beta").edge_costs(partial)
    assert math.isfinite(ElboObjective("beta").value(partial, Schedule.on_grid([0, 3, 40], process)))
    with pytest.raises(UserError, match=r"lack the timesteps \[4\]"):
        ElboObjective("beta").value(partial, Schedule.on_grid([0, 4, 40], process))
