"""The processes against their papers' own formulas, and the algebra of a step against Bayes' rule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fewstep.errors import UserError
from fewstep.process import Process

levels = st.floats(1e-3, 0.1)
processes = st.one_of(
    st.builds(Process.linear, st.integers(21, 60), st.none() | levels),
    st.builds(Process.scaled_linear, st.integers(2, 60), st.floats(1e-4, 0.01), st.floats(0.02, 0.9)),
    st.builds(Process.cosine, st.integers(2, 60), st.none() | levels),
    st.builds(Process.edm, st.integers(2, 60), levels, st.floats(1, 500)),
)


def noise_levels_of_betas(beta: np.ndarray) -> np.ndarray:
    """σ/α at t_1 … t_T from ᾱ = Π (1 − β), in extended precision."""
    alpha_bar = np.cumprod(1 - beta.astype(np.longdouble))
    return np.sqrt((1 - alpha_bar) / alpha_bar).astype(np.float64)


@pytest.mark.parametrize("T", [25, 1000, 4000])
def test_linear_is_that_of_ho_et_al(T: int) -> None:
    process = Process.linear(T)
    beta = np.linspace(1e-4 * 1000 / T, 0.02 * 1000 / T, T)
    np.testing.assert_allclose(process.noise_level(process.grid[1:]), noise_levels_of_betas(beta), rtol=1e-12)
    np.testing.assert_allclose(process.alpha(process.grid[1:]).square(), np.cumprod(1 - beta), rtol=1e-12)


def test_linear_ends_at_the_published_signal() -> None:
    process = Process.linear(1000)
    assert process.alpha(process.grid[-1]).square().item() == pytest.approx(4.036e-5, rel=1e-3)
    assert process.sigma(process.grid[1]).square().item() == pytest.approx(1e-4, rel=1e-10)


@pytest.mark.parametrize("T", [10, 1000, 4000])
def test_cosine_is_that_of_nichol_and_dhariwal(T: int) -> None:
    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    process = Process.cosine(T)
    beta = np.array([min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), 0.999) for i in range(T)])
    np.testing.assert_allclose(process.noise_level(process.grid[1:]), noise_levels_of_betas(beta), rtol=1e-10)
    # Only the last β is clipped, so before it ᾱ is cos² of an angle that grows evenly.
    assert [i for i in range(T) if beta[i] == 0.999] == [T - 1]
    closed = [alpha_bar(n / T) / alpha_bar(0) for n in range(1, T)]
    np.testing.assert_allclose(process.alpha(process.grid[1:-1]).square(), closed, rtol=1e-9)


def test_the_clip_of_the_cosine_process_is_as_violent_as_reported() -> None:
    process = Process.cosine(1000)
    assert process.noise_level(process.grid[-2:]).tolist() == pytest.approx([642, 20_291], rel=1e-3)


def test_cosine_from_a_noise_level_is_even_in_angle() -> None:
    process = Process.cosine(50, 1 / 16)
    angles = torch.atan(process.noise_level(process.grid[1:-1]))
    expected = np.linspace(math.atan(1 / 16), math.pi / 2, 50)[:-1]
    np.testing.assert_allclose(angles, expected, rtol=1e-10)
    last_beta = 1 - (process.alpha(process.grid[-1]) / process.alpha(process.grid[-2])).square()
    assert last_beta.item() == pytest.approx(0.999, abs=1e-12)


def test_linear_from_a_noise_level_keeps_its_last_beta() -> None:
    process = Process.linear(1000, 1 / 16)
    first = (1 / 16) ** 2 / (1 + (1 / 16) ** 2)
    expected = noise_levels_of_betas(np.linspace(first, 0.02, 1000))
    np.testing.assert_allclose(process.noise_level(process.grid[1:]), expected, rtol=1e-12)


def test_linear_from_a_first_to_a_last_beta() -> None:
    process = Process.linear(10, beta_first=0.01, beta_last=0.5)  # where the published ends do not exist
    expected = noise_levels_of_betas(np.linspace(0.01, 0.5, 10))
    np.testing.assert_allclose(process.noise_level(process.grid[1:]), expected, rtol=1e-12)


def test_scaled_linear_is_that_of_latent_diffusion() -> None:
    process = Process.scaled_linear(1000)
    expected = noise_levels_of_betas(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    np.testing.assert_allclose(process.noise_level(process.grid[1:]), expected, rtol=1e-12)
    # As Stable Diffusion's users know it: σ from 0.0292 to 14.6146.
    assert process.noise_level(process.grid[[1, -1]]).tolist() == pytest.approx([0.0292, 14.6146], rel=2e-3)


def test_the_published_ends_are_the_same_process_however_they_are_said() -> None:
    said = Process.linear(1000, beta_first=1e-4, beta_last=0.02, zero_terminal_snr=False)
    assert said == Process.linear(1000)
    assert said.definition == {"name": "linear", "T": 1000, "smallest_noise_level": None}
    assert Process.linear(1000, beta_last=0.03) != said
    assert Process.linear(1000, zero_terminal_snr=True) != said


@pytest.mark.parametrize("make", [Process.linear, Process.scaled_linear])
@pytest.mark.parametrize("ends", [(0.1, 0.1), (0.2, 0.1), (0.0, 0.1), (-0.1, 0.1), (0.1, 1.0), (math.nan, 0.1)])
def test_betas_must_ascend(make, ends: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="0 < first β < last β < 1"):
        make(100, beta_first=ends[0], beta_last=ends[1])


def test_a_first_beta_and_a_smallest_noise_level_are_two_ways_to_say_one_thing() -> None:
    with pytest.raises(UserError, match="give one of the two"):
        Process.linear(100, 1 / 16, beta_first=0.01)
    process = Process.scaled_linear(100, smallest_noise_level=1 / 16)
    assert process.noise_level(process.grid[1]).item() == pytest.approx(1 / 16, rel=1e-12)


def test_edm_is_log_uniform() -> None:
    process = Process.edm(18, 0.002, 80)
    expected = np.geomspace(0.002, 80, 18)
    np.testing.assert_allclose(process.sigma(process.grid[1:]), expected, rtol=1e-12)
    assert torch.equal(process.alpha(process.grid), torch.ones(19, dtype=torch.float64))


@given(st.sampled_from([Process.linear, Process.cosine]), st.integers(21, 400), st.floats(1e-3, 0.2))
def test_the_smallest_noise_level_holds_at_the_first_timestep(make, T: int, level: float) -> None:
    assume(level**2 / (1 + level**2) < 20 / T)  # where the linear process exists
    process = make(T, level)
    assert process.noise_level(process.grid[1]).item() == pytest.approx(level, rel=1e-10)


@pytest.mark.parametrize("T", [2, 10, 20])
def test_linear_does_not_exist_for_few_timesteps(T: int) -> None:
    with pytest.raises(UserError, match=f"T = {T}.*above 20"):
        Process.linear(T)
    assert Process.linear(21).T == 21


@pytest.mark.parametrize("make", [Process.linear, Process.cosine, Process.edm])
@pytest.mark.parametrize("T", [-5, 0, 1, 2.5, True, "10"])
def test_a_grid_needs_a_whole_number_of_timesteps(make, T) -> None:
    with pytest.raises(UserError, match="whole number T of at least 2"):
        make(T)


@pytest.mark.parametrize("level", [0.0, -1.0, math.nan, math.inf])
def test_a_noise_level_must_be_positive(level: float) -> None:
    with pytest.raises(UserError, match="positive and finite"):
        Process.cosine(50, level)
    with pytest.raises(UserError, match="positive and finite"):
        Process.linear(50, level)


def test_a_noise_level_that_the_process_cannot_start_at_is_refused() -> None:
    with pytest.raises(UserError, match="last β"):
        Process.linear(1000, 0.5)
    with pytest.raises(UserError, match="clipped"):
        Process.cosine(1000, 50.0)


@pytest.mark.parametrize("ends", [(0, 1), (1, 1), (2, 1), (-1, 1), (0.1, math.inf), (math.nan, 1)])
def test_edm_needs_ascending_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="0 < sigma_min < sigma_max"):
        Process.edm(10, *ends)


@given(processes, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_signal_and_noise_between_the_ends(process: Process, fractions: list[float]) -> None:
    t = (1 / process.T + torch.tensor(fractions, dtype=torch.float64) * (1 - 1 / process.T)).clamp(max=1)
    alpha, sigma = process.alpha(t), process.sigma(t)
    expected = 1 if process.variance_preserving else 1 + sigma.square()
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(t) * expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(process.noise_level(t), sigma / alpha, rtol=1e-12, atol=0)
    torch.testing.assert_close(process.snr(t), (alpha / sigma).square(), rtol=1e-12, atol=0)
    torch.testing.assert_close(process.log_snr(t), 2 * (alpha / sigma).log(), rtol=1e-12, atol=1e-12)


@given(processes)
def test_clean_data_at_zero_and_less_signal_at_every_timestep(process: Process) -> None:
    zero = torch.zeros((), dtype=torch.float64)
    assert (process.alpha(zero), process.sigma(zero), process.log_snr(zero)) == (1, 0, math.inf)
    assert process.noise_level(zero) == 0
    assert bool((process.log_snr(process.grid).diff() < 0).all())
    assert process.grid.dtype == torch.float64
    np.testing.assert_array_equal(process.grid, np.arange(process.T + 1) / process.T)


@given(processes, st.floats(0, 1), st.floats(0, 1))
def test_time_and_log_snr_are_each_others_inverse(process: Process, first: float, second: float) -> None:
    t = torch.tensor([first, second], dtype=torch.float64) * (1 - 1 / process.T) + 1 / process.T
    t = torch.cat([t.clamp(max=1), process.grid])
    there = process.log_snr(t)
    torch.testing.assert_close(process.time_of_log_snr(there), t, rtol=0, atol=1e-12)
    again = process.log_snr(process.time_of_log_snr(there))
    torch.testing.assert_close(again, there, rtol=1e-10, atol=1e-10)
    if first != second:
        assert (t[0] < t[1]) == (there[0] > there[1]) or (t[0] - t[1]).abs() < 1e-12


@given(processes, st.floats(0, 1))
def test_log_snr_is_linear_between_timesteps(process: Process, fraction: float) -> None:
    t = 1 / process.T + fraction * (1 - 1 / process.T)
    known = process.log_snr(process.grid[1:])
    expected = np.interp(t, process.grid[1:], known)
    assert process.log_snr(torch.tensor(min(t, 1.0), dtype=torch.float64)).item() == pytest.approx(expected)


def test_a_timestep_computed_another_way_is_the_same_to_the_last_bit() -> None:
    process = Process.cosine(1000)
    n = torch.arange(1, 1001, dtype=torch.float64)
    assert torch.equal(process.log_snr((n * 0.1) / 100), process.log_snr(process.grid[1:]))


def test_log_snr_has_the_slope_of_its_cell() -> None:
    process = Process.linear(40)
    t = torch.tensor([1.3 / 40, 7.9 / 40, 39.01 / 40], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(process.log_snr(t).sum(), t)
    known = process.log_snr(process.grid)
    expected = [(known[n + 1] - known[n]).item() * 40 for n in (1, 7, 39)]
    assert slope.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("t", [-0.1, 0.01, 0.01999, 1.0001, math.nan, math.inf])
def test_times_that_the_process_does_not_have(t: float) -> None:
    with pytest.raises(UserError, match=r"allowed are 0 and \[0.02, 1\]"):
        Process.cosine(50).log_snr(torch.tensor([0.5, t]))


@pytest.mark.parametrize("log_snr", [20.0, -20.0, math.nan, -math.inf])
def test_log_snrs_that_the_process_does_not_have(log_snr: float) -> None:
    with pytest.raises(UserError, match="does not fit"):
        Process.edm(50, 0.01, 100).time_of_log_snr(torch.tensor(log_snr))


def posterior_by_bayes(alphas: list[float], variances: list[float], s: int, t: int) -> tuple[float, float, float]:
    """Mean coefficients (of x_0, of x_t) and variance of q(x_s | x_t, x_0), from precisions, 0 < s < t.

    The prior of x_s is N(α_s x_0, σ_s²) and x_t is seen with x_t | x_s ~ N(a x_s, σ_t² − a² σ_s²), a = α_t/α_s.
    """
    a = np.longdouble(alphas[t]) / alphas[s]
    noise = variances[t] - a**2 * variances[s]
    precision = 1 / np.longdouble(variances[s]) + a**2 / noise
    return float(alphas[s] / variances[s] / precision), float(a / noise / precision), float(1 / precision)


@given(processes, st.data())
def test_the_posterior_of_a_step_is_bayes_rule(process: Process, data: st.DataObject) -> None:
    t = data.draw(st.integers(2, process.T))
    s = data.draw(st.integers(1, t - 1))
    level = process.noise_level(process.grid).numpy().astype(np.longdouble)
    alphas = (1 / np.sqrt(1 + level**2)) if process.variance_preserving else np.ones_like(level)
    variances = (alphas * level) ** 2
    step = process.transition(process.grid[s], process.grid[t])
    of_x0, of_xt, variance = posterior_by_bayes(alphas, variances, s, t)
    assert step.x0_coefficient.item() == pytest.approx(of_x0, rel=1e-8)
    assert step.xt_coefficient.item() == pytest.approx(of_xt, rel=1e-8)
    assert step.posterior_variance.item() == pytest.approx(variance, rel=1e-8)
    forward = variances[t] - (alphas[t] / alphas[s]) ** 2 * variances[s]
    assert step.variance.item() == pytest.approx(float(forward), rel=1e-8)


def test_the_last_step_returns_the_data(any_process: Process) -> None:
    zero, t = any_process.grid[0], any_process.grid[1:]
    step = any_process.transition(zero, t)
    assert torch.equal(step.x0_coefficient, torch.ones_like(t))
    assert not step.xt_coefficient.any()
    assert not step.posterior_variance.any()
    torch.testing.assert_close(step.variance, any_process.sigma(t).square(), rtol=1e-14, atol=0)


@given(processes, st.data())
def test_two_steps_compose_to_one(process: Process, data: st.DataObject) -> None:
    """Chapman and Kolmogorov, forwards and, given x_0, backwards: off the grid too."""
    positions = sorted(data.draw(st.lists(st.floats(1, process.T), min_size=3, max_size=3, unique=True)))
    r, s, t = (torch.tensor(position / process.T, dtype=torch.float64).clamp(max=1) for position in positions)
    assume(min(s - r, t - s) > 1e-3)
    first, second, whole = process.transition(r, s), process.transition(s, t), process.transition(r, t)
    kept = (process.alpha(t) / process.alpha(s)).square()
    torch.testing.assert_close(kept * first.variance + second.variance, whole.variance, rtol=1e-9, atol=0)
    back = first.xt_coefficient
    pairs = [
        (first.x0_coefficient + back * second.x0_coefficient, whole.x0_coefficient),
        (back * second.xt_coefficient, whole.xt_coefficient),
        (first.posterior_variance + back.square() * second.posterior_variance, whole.posterior_variance),
    ]
    for composed, direct in pairs:
        torch.testing.assert_close(composed, direct, rtol=1e-9, atol=0)


def test_noise_is_added_per_image(any_process: Process) -> None:
    x0 = torch.linspace(-1, 1, 24).reshape(3, 2, 2, 2)
    noise = x0.flip(0)
    t = any_process.grid[[1, 17, 40]]
    together = any_process.add_noise(x0, t, noise)
    assert together.dtype == x0.dtype
    for row in range(3):
        alpha, sigma = any_process.alpha(t[row]).item(), any_process.sigma(t[row]).item()
        torch.testing.assert_close(together[row], alpha * x0[row] + sigma * noise[row])
        torch.testing.assert_close(any_process.add_noise(x0, t[row], noise)[row], together[row])


@given(processes)
def test_a_process_is_rebuilt_from_its_definition(process: Process) -> None:
    again = Process.from_definition(process.definition)
    assert again == process
    assert hash(again) == hash(process)
    assert torch.equal(again.log_snr(again.grid), process.log_snr(process.grid))
    assert again != Process.edm(7, 0.1234, 5)


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ({"name": "sigmoid", "T": 10}, "no process 'sigmoid'; allowed are linear, scaled_linear, cosine, edm"),
        ({"name": ["linear"], "T": 50}, "no process"),
        ({}, "no process None"),
        ({"name": "cosine"}, "cannot be made from"),
        ({"name": "cosine", "T": 10, "gamma": 3}, "cannot be made from"),
        ({"name": "edm", "T": 10, "sigma_min": "a"}, "cannot be made from"),
        ({"name": "edm", "T": 10, "sigma_min": 1, "sigma_max": 10**400}, "cannot be made from"),
        ({"name": "cosine", "T": 1e3}, "whole number T"),
    ],
)
def test_a_definition_that_is_none(definition: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Process.from_definition(definition)
