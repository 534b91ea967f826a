"""A process whose last timestep is pure noise, α = 0: everything that reads t_T, against closed forms."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.likelihood import prior_nats
from fewstep.noise import Noise
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.gaussian_transport import GaussianTransport
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.search.even import Even
from fewstep.search.gradient import Gradient
from fewstep.search.karras import Karras
from fewstep.search.log_snr import LogSnr
from fewstep.search.tangent import Tangent
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun
from fewstep.statistics import covariance, denoising_error
from fewstep.statistics.covariance import DataCovariance, MeasuredCovariance
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.refinement import even_in_log_snr

T, SHAPE, C = 40, (1, 2, 2), 0.3
PATHS = [[0, 40], [0, 13, 40], [0, 39, 40], [0, 1, 2, 17, 33, 40], list(range(41))]
MAKERS = {
    "linear": lambda zero: Process.linear(T, zero_terminal_snr=zero),
    "scaled_linear": lambda zero: Process.scaled_linear(T, 0.01, 0.3, zero_terminal_snr=zero),
    "cosine": lambda zero: Process.cosine(T, zero_terminal_snr=zero),
}


@pytest.fixture(params=MAKERS, scope="module")
def process(request: pytest.FixtureRequest) -> Process:
    return MAKERS[request.param](True)


def angles(process: Process, path: list[int], c: float) -> list[float]:
    """arctan(σ/(α c)) at the nodes; π/2 at T."""
    times = process.grid[path]
    return [
        math.atan2(sigma, alpha * c)
        for alpha, sigma in zip(process.alpha(times), process.sigma(times), strict=True)
    ]


def gaussian_images(n: int) -> Tensor:
    return C * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", MAKERS)
def test_the_root_of_alpha_bar_is_shifted_and_scaled(name: str) -> None:
    """Lin et al. 2024, algorithm 1: √ᾱ ends at 0 and starts where it did."""
    before, after = (MAKERS[name](zero) for zero in (False, True))
    root = before.alpha(before.grid[1:])
    expected = (root - root[-1]) * root[0] / (root[0] - root[-1])
    torch.testing.assert_close(after.alpha(after.grid[1:]), expected, rtol=1e-12, atol=1e-15)
    first = after.grid[1]
    torch.testing.assert_close(after.noise_level(first), before.noise_level(first), rtol=1e-13, atol=0)


def test_the_last_timestep_is_pure_noise(process: Process) -> None:
    end = process.grid[-1]
    assert (process.alpha(end), process.sigma(end), process.snr(end)) == (0, 1, 0)
    assert (process.log_snr(end), process.noise_level(end), process.log_variance(end)) == (-math.inf, math.inf, 0)
    assert bool((process.log_snr(process.grid).diff() < 0).all())
    x0, noise = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)
    assert torch.equal(process.add_noise(x0, end, noise), noise)
    assert process.time_of_log_snr(process.log_snr(process.grid)).tolist() == pytest.approx(process.grid.tolist())


def test_no_time_lies_in_the_last_cell(process: Process) -> None:
    for time in (39.5 / 40, [0.5, 39.5 / 40]):
        with pytest.raises(UserError, match=r"0\.9875 is not on .*allowed are 0, \[0\.025, 0\.975\] and 1"):
            process.log_snr(torch.tensor(time, dtype=torch.float64))
    with pytest.raises(UserError, match="spans log-SNR"):
        process.time_of_log_snr(process.log_snr(process.grid[-2]) - 1)
    with pytest.raises(UserError, match="not on"):
        Schedule([0, 0.5, 39.5 / 40, 1], process)


def test_slopes_in_time_are_finite_below_it(process: Process) -> None:
    times = torch.tensor([1.5, 20, 38.5, 39, 40], dtype=torch.float64).div(40).requires_grad_()
    process.log_snr(times)[:-1].sum().backward()
    assert times.grad is not None
    assert bool((times.grad[:-1] < 0).all())
    assert times.grad[-1] == 0


def test_a_step_from_the_end_forgets_x_t(process: Process) -> None:
    """q(x_s | x_T, x_0) = q(x_s | x_0) = N(α_s x_0, σ_s²)."""
    s = process.grid[:-1]
    step = process.transition(s, process.grid[-1])
    torch.testing.assert_close(step.x0_coefficient, process.alpha(s), rtol=1e-15, atol=0)
    torch.testing.assert_close(step.posterior_variance, process.sigma(s).square(), rtol=1e-15, atol=0)
    assert step.xt_coefficient.tolist() == [0.0] * T
    assert step.variance.tolist() == [1.0] * T


def test_the_prior_costs_nothing(process: Process) -> None:
    assert prior_nats(process, torch.rand(3, *SHAPE)).tolist() == [0.0] * 3


@pytest.mark.parametrize("path", PATHS)
def test_ddim_falls_short_by_a_product_of_cosines(process: Process, path: list[int], perfect_denoiser) -> None:
    """The exact solution of N(0, c² I) from pure noise is c x_1."""
    noise, theta = Noise(0, range(3), SHAPE), angles(process, path, C)
    *_, last = Ddim()(perfect_denoiser(process, C**2), Schedule.on_grid(path, process), noise)
    factor = math.prod(math.cos(b - a) for a, b in pairwise(theta))
    torch.testing.assert_close(last.x, factor * C * noise(0), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("path", [[0, 13, 40], [0, 1, 2, 17, 33, 40]])
@pytest.mark.parametrize("solver", [Ddim(1.0), Ancestral("posterior"), Ancestral("beta")])
def test_stochastic_solvers_by_hand(process: Process, path: list[int], solver, perfect_denoiser) -> None:
    """Their states from q(x_s | x_t, x̂_0) in terms of α and σ; the first is α_s x̂_0 + σ_p ε."""
    denoiser, noise = perfect_denoiser(process, C**2, 0.2), Noise(0, range(3), SHAPE)
    steps = list(solver(denoiser, Schedule.on_grid(path, process), noise))
    s = process.grid[path[-2]]
    deviation = 1.0 if solver.variance == "beta" else process.sigma(s)  # σ²_{T|s} = 1
    expected = process.alpha(s) * 0.2 + deviation * noise(1)
    torch.testing.assert_close(steps[0].x, expected, rtol=1e-12, atol=1e-12)
    assert all(bool(step.x.isfinite().all()) for step in steps)


@pytest.mark.parametrize("path", PATHS)
def test_dpmpp_2m_is_the_limit_of_ever_greater_noise_levels(path: list[int], perfect_denoiser) -> None:
    """On Gaussian data, from x = σ_T ε in place of pure noise, by Lu et al.'s algorithm 2 in z = x/α."""
    process, noise = MAKERS["cosine"](True), Noise(0, range(3), SHAPE)
    levels = process.noise_level(process.grid[path]).flip(0).tolist()
    levels[0] = 1e150

    def x_hat(z: Tensor, level: float) -> Tensor:
        return C**2 / (C**2 + level**2) * z

    z, before = levels[0] * noise(0), None
    for i in range(len(levels) - 2):
        h = math.log(levels[i] / levels[i + 1])
        predicted = x_hat(z, levels[i])
        D = (
            predicted
            if before is None
            else predicted + h / (2 * math.log(levels[i - 1] / levels[i])) * (predicted - before)
        )
        z = math.exp(-h) * z - math.expm1(-h) * D
        before = predicted
    expected = x_hat(z, levels[-2])
    *_, last = Dpmpp2M()(perfect_denoiser(process, C**2), Schedule.on_grid(path, process), noise)
    # The extrapolation of the second step falls only as 1/log of the first level.
    tolerance = 1e-9 if len(path) < 4 else 0.01
    torch.testing.assert_close(last.x, expected, rtol=tolerance, atol=1e-9)


def test_heun_has_no_first_step(process: Process, perfect_denoiser) -> None:
    with pytest.raises(UserError, match=r"heun .*infinite noise level.*ddim"):
        next(
            iter(
                Heun()(perfect_denoiser(process, 1.0), Schedule.on_grid([0, 9, 40], process), Noise(0, [0], SHAPE))
            )
        )


@pytest.mark.parametrize("name", ["eps", "edm"])
def test_what_divides_by_alpha_is_refused(process: Process, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} parameterisation divides by α.*v and x0"):
        Denoiser(lambda x, t: x, process, name)


def test_v_at_the_end_is_minus_x0(process: Process) -> None:
    """v = α ε − σ x_0 = −x_0 there."""
    x0 = torch.randn(2, *SHAPE)
    denoiser = Denoiser(lambda x, t: -x0, process, "v")
    assert torch.equal(denoiser(torch.randn(2, *SHAPE), process.grid[-1]).x0, x0)


@pytest.mark.parametrize("rule", [Even(), Karras(), LogSnr(), Tangent(0.3)])
@pytest.mark.parametrize("K", [1, 2, 5, 40])
def test_fixed_rules_end_at_pure_noise(process: Process, rule, K: int, perfect_denoiser) -> None:
    schedule = rule(None, {}, perfect_denoiser(process, 1.0), [K])[K]
    assert schedule.steps == K
    assert schedule.indices[-1] == T


def test_statistics_and_tables_are_closed_forms(process: Process, perfect_denoiser, measure) -> None:
    """x̂_0 of pure noise is the mean: e(T) is the data's variance, and L(s, T) = ½ SNR(s) e(T) for `posterior`."""
    images = gaussian_images(50)
    measured = measure(images.clamp(-1, 1), perfect_denoiser(process, C**2))
    error = measured.error.mean(1)[-1]
    torch.testing.assert_close(error, images.clamp(-1, 1).square().flatten(1).sum(1).mean())
    for variance in ("posterior", "beta", "optimal"):
        objective = ElboObjective(variance)
        statistics = {denoising_error.KIND: measured}
        costs = objective.edge_costs(statistics).costs
        assert bool(costs[:, 1:].triu(1)[:, 1:].isfinite().all())
        if variance == "posterior":
            snr = process.snr(process.grid[1:-1])
            torch.testing.assert_close(costs[1:-1, -1], snr * error / 2, rtol=1e-12, atol=0)
        path = Dp()(objective, statistics, perfect_denoiser(process, C**2), [6])[6]
        assert math.isfinite(objective.value(statistics, path))
        assert bool(objective.time_weights(statistics, path).isfinite().all())


def test_the_discretization_loss_starts_from_an_infinite_noise_level(process, perfect_denoiser, measure) -> None:
    """1/σ_T = 0: the weights sum to 1 to the last bit."""
    denoiser = perfect_denoiser(process, C**2)
    statistics = {denoising_error.KIND: measure(gaussian_images(5).clamp(-1, 1), denoiser)}
    schedule = Schedule.on_grid([0, 20, 33, 40], process)
    weights = Discretization().time_weights(statistics, schedule)
    assert weights.sum().item() == pytest.approx(1, rel=1e-14)
    level = process.noise_level(process.grid[33]).item()
    assert weights[-1].item() == pytest.approx(1 / 16 / level, rel=1e-12)
    assert Discretization().edge_costs(statistics).costs[20, 40].isfinite()
    with pytest.raises(UserError, match=r"eps form.*infinite.*form=x0"):
        Discretization(form="eps").time_weights(statistics, schedule)


@pytest.mark.parametrize("path", PATHS)
def test_gaussian_transport_is_ddims_error(process: Process, path: list[int]) -> None:
    deviations = torch.tensor([0.05, 0.3, 1.0], dtype=torch.float64)
    data = DataCovariance(torch.zeros(3).double(), deviations.square(), torch.eye(3).double())
    measured = MeasuredCovariance(process=process, data=data, n_images=9, split="train")
    schedule, objective = Schedule.on_grid(path, process), GaussianTransport()
    statistics = {covariance.KIND: measured}
    expected = 0.0
    for c in deviations.tolist():
        theta = angles(process, path, c)
        expected += c**2 * (1 - math.prod(math.cos(b - a) for a, b in pairwise(theta))) ** 2
    assert objective.value(statistics, schedule) == pytest.approx(expected, rel=1e-9)
    costs = objective.edge_costs(statistics).costs
    theta = [angles(process, list(range(T + 1)), c) for c in deviations.tolist()]
    column = [
        sum(
            -(c**2) * math.log(math.cos(angle[-1] - angle[s]))
            for c, angle in zip(deviations.tolist(), theta, strict=True)
        )
        for s in range(1, T)
    ]
    np.testing.assert_allclose(costs[1:T, T], column, rtol=1e-9)


def test_the_wiener_error_of_pure_noise_is_the_variance(process: Process) -> None:
    images, noise = gaussian_images(20), torch.randn(20, *SHAPE, dtype=torch.float64)
    data = DataCovariance.of(images)
    error = data.wiener_error(images, noise, process.noise_level(process.grid[1:]))
    assert error[-1].item() == pytest.approx((images - images.mean(0)).square().sum().item() / 20, rel=1e-12)


def test_what_is_interpolated_between_timesteps_is_finite(process: Process, perfect_denoiser, measure) -> None:
    nodes = even_in_log_snr(process, 12)
    assert {1, 2, T} <= set(nodes)
    denoiser, images = perfect_denoiser(process, C**2), gaussian_images(30).clamp(-1, 1)
    found = interpolated(measure(images, denoiser, indices=nodes)).error.mean(1)
    whole = measure(images, denoiser).error.mean(1)
    torch.testing.assert_close(found, whole, rtol=0.05, atol=0)


def test_a_descent_is_refused(process: Process) -> None:
    with pytest.raises(UserError, match="infinite noise level"):
        Gradient(levels=17).check(ElboObjective("posterior"), process)


def test_the_file_has_null_for_the_infinite_noise_level(process: Process, tmp_path: Path) -> None:
    schedule = Schedule.on_grid([0, 7, 39, 40], process, {"search": "dp"})
    with pytest.raises(UserError, match=r"infinite.*timesteps\(\)"):
        schedule.sigmas()
    assert schedule.timesteps() == [39, 38, 6]
    schedule.save(tmp_path / "schedule.json")
    content = json.loads((tmp_path / "schedule.json").read_text())
    levels = process.noise_level(process.grid[[39, 7, 0]]).tolist()
    assert content["sigmas"] == [None, *levels]
    assert Schedule.load(tmp_path / "schedule.json") == schedule
    for wrong in ([1e9, *levels], [None, 1.0, *levels[1:]], [None, None, *levels[1:]]):
        (tmp_path / "wrong.json").write_text(json.dumps(content | {"sigmas": wrong}))
        with pytest.raises(UserError, match="sigmas are not those of its times"):
            Schedule.load(tmp_path / "wrong.json")


def test_too_short_a_grid() -> None:
    with pytest.raises(UserError, match="at least 3 timesteps"):
        Process.cosine(2, zero_terminal_snr=True)
