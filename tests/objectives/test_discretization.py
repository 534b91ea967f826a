"""The discretization loss: what the solver combines, brute force over paths, and what cannot be asked."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.solvers.base import initial_state
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.time_distribution import OnSchedule

SHAPE, DIMENSIONS = (1, 2, 2), 4
POWERS = [0.25, 1.0, 2.0]
BOTH = pytest.mark.parametrize("form", ["x0", "eps"])
PATHS = [[0, 40], [0, 1, 40], [0, 1, 2, 40], [0, 7, 9, 23, 40], list(range(41))]


def crooked(process: Process) -> Denoiser:
    """A poor denoiser, nothing like linear."""
    weights = torch.randn(DIMENSIONS, DIMENSIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        mixed = torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None] / process.T))
        return 0.8 * mixed.reshape(x.shape)

    return Denoiser(network, process, "x0")


def combined(objective: Discretization, statistics: dict[str, DenoisingError], schedule: Schedule) -> Tensor:
    """The weights of the outputs that the form speaks of, [K]: of ‖ε − ε̂‖² = e/σ̄² in eps form."""
    weights = objective.time_weights(statistics, schedule)
    level = schedule.process.noise_level(schedule.times[1:])
    return weights * level.square() if objective.form == "eps" else weights


# What a first-order solver does


@pytest.mark.parametrize("kind", ["linear", "cosine", "edm"])
def test_ddims_output_is_the_convex_combination_of_its_networks_outputs(kind: str, measure, grey_images) -> None:
    """z(σ̄_0) = (σ̄_0/σ̄_K) z_K + Σ w_i x̂_0(i) = z_K − σ̄_K Σ w_i ε̂(i) for any network, where a node lies at σ̄_0."""
    process = getattr(Process, kind)(40, smallest_noise_level=1 / 16)
    denoiser, noise = crooked(process), Noise(3, range(6), SHAPE)
    statistics = {KIND: measure(grey_images(2, SHAPE), denoiser)}
    schedule = Schedule.on_grid([0, 1, 5, 6, 19, 33, 40], process)
    level, alpha = (of(schedule.times[1:]).reshape(-1, 1, 1, 1, 1) for of in (process.noise_level, process.alpha))
    steps = [*Ddim()(denoiser, schedule, noise)][::-1]
    # The last move, from σ̄_0 to 0, is no part of the combination.
    states = torch.stack([step.x for step in steps[1:]] + [initial_state(denoiser, schedule, noise)]) / alpha
    outputs = torch.stack([step.x0 for step in steps])
    weights, of_noise = (
        combined(Discretization(form=form), statistics, schedule).reshape(-1, 1, 1, 1, 1) for form in ("x0", "eps")
    )
    expected = (1 / 16) / level[-1] * states[-1] + (weights * outputs).sum(0)
    torch.testing.assert_close(states[0], expected, rtol=1e-10, atol=1e-10)
    expected = states[-1] - level[-1] * (of_noise * (states - outputs) / level).sum(0)
    torch.testing.assert_close(states[0], expected, rtol=1e-10, atol=1e-10)


@BOTH
@pytest.mark.parametrize("power", POWERS)
def test_weights_are_positive_and_sum_to_what_the_ends_leave(
    any_process: Process, power: float, form: str, measure, grey_images
) -> None:
    statistics = {KIND: measure(grey_images(2, SHAPE), crooked(any_process))}
    end = any_process.noise_level(any_process.grid[-1]).item()
    for path in PATHS:
        schedule = Schedule.on_grid(path, any_process)
        weights = combined(Discretization(power, form), statistics, schedule)
        below = any_process.noise_level(schedule.times[1:]) <= 1 / 16 + 1e-12
        assert bool((weights[~below] > 0).all())
        assert weights[below].tolist() == pytest.approx([0] * int(below.sum()), abs=1e-12)
        assert weights.sum().item() == pytest.approx(1 - (1 / 16 / end) ** power, rel=1e-12)


@BOTH
def test_the_loss_of_tuning_is_the_objective_up_to_a_constant(form: str, measure, grey_images) -> None:
    """Of an eps network it is ‖ε − ε̂‖²: in eps form the times come as often as their steps are long in σ̄."""
    process, images = Process.cosine(40), grey_images(3, SHAPE)
    denoisers = [Denoiser(lambda x, time, a=a: a * x, process, "eps") for a in (0.1, 0.3)]
    objective, schedule = Discretization(form=form), Schedule.on_grid([0, 7, 9, 23, 40], process)
    levels = process.noise_level(schedule.times)
    values, losses = [], []
    for denoiser in denoisers:
        statistics = {KIND: measure(images, denoiser)}
        weights = objective.time_weights(statistics, schedule)
        probabilities = OnSchedule.of_objective(schedule, weights, denoiser).probabilities
        rows = statistics[KIND].rows(schedule.indices[1:])
        losses.append((probabilities @ (statistics[KIND].error[rows].mean(1) / levels[1:].square())).item())
        values.append(objective.value(statistics, schedule))
    assert losses[0] / losses[1] == pytest.approx(values[0] / values[1], rel=1e-12)
    assert losses[0] != pytest.approx(losses[1], rel=0.1)
    if form == "eps":
        levels[0] = 1 / 16
        torch.testing.assert_close(probabilities, levels.diff() / (levels[-1] - levels[0]))


# The table


def test_with_p_2_the_table_is_that_of_the_elbo_under_posterior_variance(
    any_process: Process, measure, grey_images
) -> None:
    """Times 2 σ̄_0², the decoder's column s = 0 aside."""
    statistics = {KIND: measure(grey_images(5, SHAPE), crooked(any_process))}
    table = Discretization(2.0).edge_costs(statistics).costs[1:, 1:]
    elbo = ElboObjective("posterior").edge_costs(statistics).costs[1:, 1:]
    usable = any_process.noise_level(any_process.grid[1:]) > 1 / 16 + 1e-9
    both = usable[:, None] & usable & torch.ones_like(table, dtype=torch.bool).triu(1)
    torch.testing.assert_close(table[both], elbo[both] * 2 / 16**2, rtol=1e-12, atol=0)
    assert bool((table[~both] == torch.inf).all())


@BOTH
@pytest.mark.parametrize("power", POWERS)
def test_the_monte_carlo_form_and_the_table_are_the_value(
    any_process: Process, power: float, form: str, measure, grey_images
) -> None:
    """On the same images, noise and grid times."""
    denoiser, images = crooked(any_process), grey_images(5, SHAPE)
    statistics = {KIND: measure(images, denoiser, seed=9)}
    noise = Noise(9, range(5), SHAPE)(0)
    objective = Discretization(power, form)
    table = objective.edge_costs(statistics)
    assert torch.equal(table.times, any_process.grid)
    for path in PATHS:
        schedule = Schedule.on_grid(path, any_process)
        value = objective.value(statistics, schedule)
        loss = objective.loss(denoiser, images, schedule.times, noise, statistics).item()
        assert loss == pytest.approx(value, rel=1e-12)
        if any_process.noise_level(schedule.times[1]) > 1 / 16 + 1e-9:
            assert table.total(path) == pytest.approx(value, rel=1e-12)
        else:
            assert table.total(path) == math.inf


@BOTH
@pytest.mark.parametrize("power", POWERS)
def test_no_path_of_usable_nodes_costs_less(power: float, form: str, measure, grey_images) -> None:
    """Five of the grid's nodes lie at or below σ̄_0, and the programme uses none of them."""
    process = Process.edm(20, 1 / 64, 16.0)
    denoiser, images = crooked(process), grey_images(6, SHAPE)
    statistics, objective = {KIND: measure(images, denoiser)}, Discretization(power, form)
    usable = [i for i in range(1, 20) if process.noise_level(process.grid[i]) > 1 / 16]
    assert len(usable) < 19
    found = Dp()(objective, statistics, denoiser, [1, 2, 3, 4, len(usable) + 1])
    for K, schedule in found.items():
        paths = [[0, *inner, 20] for inner in itertools.combinations(usable, K - 1)]
        least = min(paths, key=lambda path: objective.value(statistics, Schedule.on_grid(path, process)))
        assert schedule.indices == least


@BOTH
def test_nodes_at_or_below_half_a_grey_level_count_for_nothing(form: str, measure, grey_images) -> None:
    process = Process.edm(40, 1 / 64, 30.0)
    denoiser, images = crooked(process), grey_images(5, SHAPE)
    statistics, objective = {KIND: measure(images, denoiser)}, Discretization(form=form)
    without, through = (Schedule.on_grid(path, process) for path in ([0, 9, 17, 40], [0, 1, 4, 9, 17, 40]))
    assert objective.value(statistics, through) == objective.value(statistics, without)
    times, noise = through.times.clone().requires_grad_(), Noise(0, range(5), SHAPE)(0)
    (slope,) = torch.autograd.grad(objective.loss(denoiser, images, times, noise, statistics), times)
    assert slope[:3].tolist() == [0, 0, 0]
    assert bool((slope[3:-1] != 0).all())


@BOTH
@pytest.mark.parametrize("kind", ["linear", "cosine", "edm"])
def test_a_grid_that_begins_at_half_a_grey_level_has_no_use_for_its_first_node(
    kind: str, form: str, measure, grey_images
) -> None:
    """Whichever way the last bit of its log-SNR falls."""
    process = getattr(Process, kind)(40, smallest_noise_level=1 / 16)
    costs = Discretization(form=form).edge_costs({KIND: measure(grey_images(2, SHAPE), crooked(process))}).costs
    assert bool((costs[1] == torch.inf).all())
    assert bool((costs[:, 1] == torch.inf).all())
    assert bool(torch.isfinite(costs[0, 2:]).all())
    assert bool(torch.isfinite(costs[2, 3:]).all())


@BOTH
def test_the_value_is_linear_in_the_errors_with_the_weights_as_slopes(form: str, measure, grey_images) -> None:
    measured = measure(grey_images(5, SHAPE), crooked(Process.cosine(40)))
    schedule, objective = Schedule.on_grid([0, 2, 9, 23, 40], measured.process), Discretization(1.5, form)
    error = measured.error[measured.rows([2, 9, 23, 40])]
    weights = objective.time_weights({KIND: measured}, schedule)
    torch.testing.assert_close(
        objective.image_values({KIND: measured}, schedule), (weights[:, None] * error).sum(0)
    )


# What cannot be asked


@pytest.mark.parametrize("power", [0, -1.0, math.nan, math.inf, -math.inf, "one", None, True])
def test_a_power_that_is_not_positive_and_finite_is_refused(power: object) -> None:
    with pytest.raises(UserError, match=rf"power must be positive and finite; given was {power!r}\.$"):
        Discretization(power)  # type: ignore[arg-type]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UserError, match="no form 'v'; allowed are x0, eps"):
        Discretization(1.0, "v")


def test_statistics_that_lack_timesteps_are_refused(measure, grey_images) -> None:
    process = Process.cosine(40)
    partial_statistics = {KIND: measure(grey_images(3, SHAPE), crooked(process), indices=[3, 40])}
    objective = Discretization()
    with pytest.raises(UserError, match="at all 40 timesteps; given were 2"):
        objective.edge_costs(partial_statistics)
    assert math.isfinite(objective.value(partial_statistics, Schedule.on_grid([0, 3, 40], process)))
    with pytest.raises(UserError, match=r"lack the timesteps \[4\]"):
        objective.value(partial_statistics, Schedule.on_grid([0, 4, 40], process))
    with pytest.raises(UserError, match="cannot be used with"):
        objective.value(partial_statistics, Schedule([0, 1], Process.cosine(41)))


def test_a_process_without_noise_above_half_a_grey_level_is_refused(measure, grey_images) -> None:
    process = Process.edm(40, 0.002, 0.0625)
    denoiser, images = crooked(process), grey_images(3, SHAPE)
    statistics, objective = {KIND: measure(images, denoiser)}, Discretization()
    schedule, noise = Schedule([0, 1], process), Noise(0, range(3), SHAPE)(0)
    for ask in (
        lambda: objective.edge_costs(statistics),
        lambda: objective.value(statistics, schedule),
        lambda: objective.loss(denoiser, images, schedule.times, noise, statistics),
    ):
        with pytest.raises(UserError, match=r"ends at the noise level 1/16, half a grey level, but .* none above"):
            ask()


def test_more_steps_than_usable_timesteps_are_refused(measure, grey_images) -> None:
    process = Process.cosine(40, 1 / 16)
    denoiser = crooked(process)
    statistics = {KIND: measure(grey_images(3, SHAPE), denoiser)}
    assert Dp()(Discretization(), statistics, denoiser, [39])[39].indices == [0, *range(2, 41)]
    with pytest.raises(UserError, match="no path of 40 steps"):
        Dp()(Discretization(), statistics, denoiser, [40])
