"""The discretization loss on Gaussian data with the exact denoiser, whose error is a closed form."""

import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial

import pytest
import torch

from fewstep.noise import Noise
from fewstep.objectives.discretization import Discretization
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp, optimal_paths
from fewstep.search.regret import best_paths
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import selected_timesteps
from fewstep.statistics.refinement import refine

SHAPE = (1, 2, 2)
# Standard deviation of DDIM's output over the exact one, by p and K, as derived for this project: Gaussian data
# of standard deviation 0.5, σ from 0.002 to 80, the schedules optimal.
OUTPUT_STD = {
    2.0: {4: 0.252, 6: 0.389, 10: 0.550, 20: 0.719},
    1.0: {4: 0.460, 6: 0.627, 10: 0.772, 20: 0.886},
    0.5: {4: 0.573, 6: 0.720, 10: 0.837, 20: 0.922},
}


def gaussian(process: Process, levels: int, c: float = 0.5) -> dict[str, DenoisingError]:
    """The exact error of the exact denoiser on N(0, c²) in one dimension, c² σ̄²/(c² + σ̄²); one image."""
    variance = process.noise_level(process.grid[1:]).square()
    error = c**2 * variance / (c**2 + variance)
    none = torch.zeros(process.T, 1, dtype=torch.float64)
    measured = DenoisingError(
        process=process,
        indices=torch.arange(1, process.T + 1),
        error=error[:, None],
        decoder_of_process=none,
        decoder_of_error=none,
        fitted_error=error,
        prior=none[0],
        dimensions=1,
        levels=levels,
        split="train",
        fitted_split="train",
        seed=0,
        calls=0,
    )
    return {KIND: measured}


@pytest.mark.parametrize("levels", [17, 501])
@pytest.mark.parametrize("K", [4, 6, 10, 20])
def test_the_programme_comes_to_the_optimum_of_p_2_as_the_grid_gets_finer(K: int, levels: int) -> None:
    """Nodes even in y = log(1 + c²/σ̄²), from σ̄_0 on: by AM-GM, for the sum is σ̄_0² Σ (e^Δy − 1)."""
    first, last = (math.log1p(0.25 / sigma**2) for sigma in (1 / (levels - 1), 80.0))
    least = K * math.expm1((first - last) / K) / (levels - 1) ** 2
    excess = []
    for T in (100, 1000):
        process = Process.edm(T, 0.002, 80.0)
        table = Discretization(2.0).edge_costs(gaussian(process, levels))
        path = optimal_paths(table.costs, [K])[K]
        excess.append(table.total(path) / least - 1)
    assert -1e-12 <= excess[1] < min(1e-3, excess[0])
    nodes = torch.log1p(0.25 / process.noise_level(process.grid[path[1:]]).square())
    even = first + (last - first) * torch.arange(1, K + 1, dtype=torch.float64) / K
    cell = math.log(80 / 0.002) / 999  # of log σ̄, of which y moves at most twice as fast
    assert bool(((nodes - even).abs() < 2 * cell).all())


@pytest.mark.parametrize("power", OUTPUT_STD)
def test_ddims_output_on_gaussian_data_is_too_narrow_by_the_table(power: float, perfect_denoiser) -> None:
    """The ELBO's weight, p = 2, is the worst for a deterministic sampler, and smaller powers are better."""
    process = Process.edm(1000, 0.002, 80.0)
    denoiser, noise = perfect_denoiser(process, 0.25), Noise(0, range(3), SHAPE)
    found = Dp()(Discretization(power), gaussian(process, 501), denoiser, [*OUTPUT_STD[power]])
    exact = 80 * noise(0) * 0.5 / math.sqrt(0.25 + 80**2)
    for K, expected in OUTPUT_STD[power].items():
        *_, last = Ddim()(denoiser, found[K], noise)
        ratio = (last.x / exact).flatten().tolist()
        assert ratio == pytest.approx([expected] * len(ratio), abs=0.002), K
        tangent = math.cos((math.atan(160) - math.atan(0.004)) / K) ** K  # the best there is
        assert max(ratio) < tangent


def test_the_loss_and_its_slope_are_the_closed_forms(perfect_denoiser) -> None:
    """On images and noises with the moments of N(0, c²) and N(0, 1): at the optimum of p = 2 it has no slope."""
    process = Process.edm(1000, 0.002, 80.0)
    x0 = 0.5 * torch.tensor([1.0, 1, -1, -1], dtype=torch.float64).reshape(4, 1, 1, 1)
    noise = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64).reshape(4, 1, 1, 1)
    denoiser, statistics = perfect_denoiser(process, 0.25), gaussian(process, 17)
    ends = [math.log1p(0.25 / sigma**2) for sigma in (1 / 16, 80.0)]
    y = torch.linspace(*ends, 7, dtype=torch.float64)
    inner = process.time_of_log_snr(torch.log(torch.expm1(y[1:-1]) / 0.25))
    times = torch.cat([torch.zeros(1), inner, torch.ones(1)]).double().requires_grad_()
    loss = Discretization(2.0).loss(denoiser, x0, times, noise, statistics)
    (slope,) = torch.autograd.grad(loss, times)
    assert loss.item() == pytest.approx(6 * math.expm1((ends[0] - ends[1]) / 6) / 256, rel=1e-12)
    assert slope[1:-1].tolist() == pytest.approx([0.0] * 5, abs=1e-9 * loss.item())
    (slope,) = torch.autograd.grad(Discretization().loss(denoiser, x0, times, noise, statistics), times)
    assert bool((slope[1:-1].abs() > 1e-3 * loss.item()).all())


@pytest.mark.parametrize("power", [0.01, 0.5, 1.0])
def test_many_nodes_lie_as_densely_as_the_limit_says(power: float) -> None:
    """Even in ∫ dσ̄ σ̄^{−p/2}/(c² + σ̄²), the slope of weight and error: for p → 0 the tangent law, even angles."""
    process = Process.edm(2000, 0.002, 80.0)
    table = Discretization(power).edge_costs(gaussian(process, 501))
    sigma = torch.logspace(math.log10(0.002), math.log10(80), 100_001, dtype=torch.float64)
    total = torch.cumulative_trapezoid(sigma ** (-power / 2) / (0.25 + sigma.square()), sigma)
    share = total / total[-1]
    off = []
    for K, path in optimal_paths(table.costs, [6, 20, 60]).items():
        at = torch.searchsorted(sigma, process.noise_level(process.grid[path[1:-1]]))
        off.append((share[at] - torch.arange(1, K) / K).abs().max().item())
    assert off[1] < off[0] / 2
    assert off[2] < min(off[1] / 2, 0.03)


def test_many_steps_meet_one_integral_from_above_in_x0_form_and_from_below_in_eps_form() -> None:
    """∫ σ̄_0/σ̄² e dσ̄ = σ̄_0 c (arctan(σ̄_T/c) − arctan(σ̄_0/c)), for both, for e/σ̄² falls as e rises."""
    integral = 0.5 / 16 * (math.atan(160) - math.atan(1 / 8))
    above, below = [], []
    for T in (250, 1000, 4000):
        process = Process.edm(T, 1 / 16, 80.0)
        whole = Schedule.on_grid([0, *range(2, T + 1)], process)
        statistics = gaussian(process, 17)
        above.append(Discretization().value(statistics, whole) / integral - 1)
        below.append(1 - Discretization(form="eps").value(statistics, whole) * 80 / 16 / integral)
    assert above[0] > above[1] > above[2] > 0
    assert below[0] > below[1] > below[2] > 0
    assert max(above[2], below[2]) < 1e-3


def test_in_eps_form_an_exact_denoisers_loss_grows_with_every_step(perfect_denoiser) -> None:
    """In x0 form it falls. So the best schedules crowd at one end, and leap (docs/discretization.md)."""
    process = Process.edm(400, 0.002, 80.0)
    least = {}
    for form in ("x0", "eps"):
        table = Discretization(form=form).edge_costs(gaussian(process, 501))
        least[form] = [table.total(path) for path in optimal_paths(table.costs, [*range(1, 31)]).values()]
    assert all(many < few for few, many in itertools.pairwise(least["x0"]))
    assert all(many > few for few, many in itertools.pairwise(least["eps"]))
    denoiser, noise = perfect_denoiser(process, 0.25), Noise(0, range(3), SHAPE)
    found = Dp()(Discretization(form="eps"), gaussian(process, 501), denoiser, [6])
    *_, last = Ddim()(denoiser, found[6], noise)
    assert bool((last.x.abs() < 0.02 * (noise(0) * 0.5).abs()).all())


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_neighbours_on_a_fine_grid_cancel_nothing(power: float) -> None:
    """Against 50 digits, from the same log-SNRs."""
    process = Process.edm(4000, 0.0625, 80.0)
    statistics = gaussian(process, 17)
    schedule = Schedule.on_grid([0, 2, 3, 2000, 2001, 3999, 4000], process)
    nodes = [2 * math.log(16), *process.log_snr(schedule.times[1:]).tolist()]
    with localcontext() as context:
        context.prec = 50
        half, end, last = Decimal(power) / 2, Decimal(nodes[0]), Decimal(nodes[-1])
        pairs = [(Decimal(s), Decimal(t)) for s, t in itertools.pairwise(nodes)]
        x0 = [float((half * (s - end)).exp() - (half * (t - end)).exp()) for s, t in pairs]
        eps = [float(((half * (last - t)).exp() - (half * (last - s)).exp()) * t.exp()) for s, t in pairs]
    assert Discretization(power).time_weights(statistics, schedule).tolist() == pytest.approx(x0, rel=1e-13)
    assert Discretization(power, "eps").time_weights(statistics, schedule).tolist() == pytest.approx(
        eps, rel=1e-13
    )


def test_few_timesteps_find_its_schedules_within_the_bound_that_they_state() -> None:
    """Also where a third of the grid may not be used."""
    process = Process.edm(1000, 0.002, 80.0)
    whole = gaussian(process, 17)[KIND]
    objective = Discretization()
    tables: list[Callable] = [lambda found: objective.edge_costs({KIND: found})]
    refined = refine(partial(selected_timesteps, whole), process, tables, [4, 8, 16], 0.01)
    truth = objective.edge_costs({KIND: whole})
    assert len(refined.measured.indices) < 100
    for K in (4, 8, 16):
        path = best_paths(objective.edge_costs({KIND: interpolated(refined.measured)}), [K])[K]
        assert truth.total(path) <= (1 + refined.regret_bound) * truth.total(best_paths(truth, [K])[K])
