"""The solvers on Gaussian data, where outputs have closed forms, and against their papers' own recursions."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.base import Solver, Step
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.denoising_error import KIND, DenoisingError

SHAPE, DIMENSIONS = (1, 2, 2), 4
PATHS = [[0, 40], [0, 13, 40], [0, 1, 2, 17, 33, 40], list(range(41))]
SOLVERS = [Ddim(), Ddim(0.5), Ddim(1.0), Ancestral("beta"), Ancestral("posterior")]


def final(steps: Iterator[Step]) -> Tensor:
    *_, last = steps
    return last.x


def crooked(process: Process) -> Denoiser:
    """A poor denoiser, nothing like linear."""
    weights = torch.randn(DIMENSIONS, DIMENSIONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        return 0.8 * torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None] / process.T)).reshape(x.shape)

    return Denoiser(network, process, "x0")


def exact_statistics(process: Process, c: float) -> DenoisingError:
    """e(t) of N(0, c² I) with its perfect denoiser, all that `optimal` variance needs."""
    level = process.noise_level(process.grid[1:]).square()
    error = c**2 * level / (c**2 + level)
    nothing = torch.zeros(process.T, 1, dtype=torch.float64)
    return DenoisingError(
        process=process,
        indices=torch.arange(1, process.T + 1),
        error=nothing,
        decoder_of_process=nothing,
        decoder_of_error=nothing,
        fitted_error=error,
        prior=nothing[0],
        dimensions=DIMENSIONS,
        levels=17,
        split="train",
        fitted_split="train",
        seed=0,
        calls=0,
    )


def product_of_cosines(noise_levels: list[float], c: float) -> float:
    """Π cos(θ_i − θ_{i−1}), θ = arctan(σ/c), over noise levels that end in 0."""
    angles = [math.atan(level / c) for level in noise_levels]
    return math.prod(math.cos(a - b) for a, b in pairwise(angles))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("c", [0.3, 1.0])
def test_euler_falls_short_by_a_product_of_cosines(any_process: Process, perfect_denoiser, path, c) -> None:
    """DDIM's output is the exact solution z_1 c/√(c² + σ̄²) times Π cos, to the last step into 0."""
    schedule = Schedule.on_grid(path, any_process)
    noise = Noise(0, range(3), SHAPE)
    sigmas = schedule.sigmas()
    scale = sigmas[0] if not any_process.variance_preserving else math.sqrt(1 + sigmas[0] ** 2)
    exact = scale * noise(0) * c / math.sqrt(c**2 + sigmas[0] ** 2)
    output = final(Ddim()(perfect_denoiser(any_process, c**2), schedule, noise))
    torch.testing.assert_close(output, exact * product_of_cosines(sigmas, c), rtol=1e-9, atol=1e-14)


def test_euler_on_correlated_data_does_so_in_every_direction(any_process: Process, perfect_denoiser) -> None:
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 2
    mean = torch.tensor([0.5, -0.2, 0.0, 1.0], dtype=torch.float64)
    eigenvalues, eigenvectors = torch.linalg.eigh(root @ root.T)
    schedule = Schedule.on_grid([0, 3, 12, 25, 40], any_process)
    noise = Noise(0, range(3), SHAPE)
    output = final(Ddim()(perfect_denoiser(any_process, root @ root.T, mean), schedule, noise))
    sigmas = schedule.sigmas()
    scale = sigmas[0] if not any_process.variance_preserving else math.sqrt(1 + sigmas[0] ** 2)
    z = (scale * noise(0).flatten(1) - mean) @ eigenvectors
    kept = [c / math.hypot(c, sigmas[0]) * product_of_cosines(sigmas, c) for c in eigenvalues.sqrt().tolist()]
    expected = mean + (z * torch.tensor(kept, dtype=torch.float64)) @ eigenvectors.T
    torch.testing.assert_close(output.flatten(1), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("K", "published"), [(4, (0.732, 0.560, 0.467)), (10, (0.885, 0.767, 0.753)), (20, (0.941, 0.876, 0.868))]
)
def test_eulers_shrinkage_for_three_laws(perfect_denoiser, K: int, published: tuple[float, ...]) -> None:
    """Derived figures: N(0, 0.25), σ from 80 to 0.002, output deviation over the exact one."""
    low, high, c = 0.002, 80.0, 0.5
    u = np.arange(K + 1) / K
    laws = [
        c * np.tan((1 - u) * math.atan(low / c) + u * math.atan(high / c)),
        low ** (1 - u) * high**u,
        ((1 - u) * low ** (1 / 7) + u * high ** (1 / 7)) ** 7,
    ]
    process = Process.edm(1000, low, high)
    noise = Noise(0, [0], SHAPE)
    for law, ratio in zip(laws, published, strict=True):
        times = process.time_of_log_snr(-2 * torch.from_numpy(np.log(law)))
        schedule = Schedule([0, *times.tolist()[:-1], 1], process)  # the last, tiny step goes from 0.002 to 0
        output = final(Ddim()(perfect_denoiser(process, c**2), schedule, noise))
        exact = high * noise(0) * c / math.hypot(c, high)
        assert (output / exact).mean().item() == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize("path", PATHS)
def test_ddim_with_full_noise_is_the_ancestral_sampler(any_process: Process, path: list[int]) -> None:
    schedule, noise = Schedule.on_grid(path, any_process), Noise(0, range(5), SHAPE)
    denoiser = crooked(any_process)
    ddim, ancestral = Ddim(1.0)(denoiser, schedule, noise), Ancestral("posterior")(denoiser, schedule, noise)
    for mine, theirs in zip(ddim, ancestral, strict=True):
        torch.testing.assert_close(mine.x, theirs.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_equation_12_of_song_et_al(eta: float) -> None:
    """In their ᾱ and ε̂, from a list of β."""
    process = Process.linear(40)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4 * 25, 0.02 * 25, 40))
    path = [0, 3, 11, 26, 40]
    denoiser, noise = crooked(process), Noise(0, range(5), SHAPE)
    x = noise(0).numpy()
    for move, (s, t) in enumerate(zip(path[-2::-1], path[:0:-1], strict=True), start=1):
        x0 = denoiser(torch.from_numpy(x), process.grid[t]).x0.numpy()
        a_t, a_s = alpha_bar[t - 1], alpha_bar[s - 1] if s else 1.0
        eps = (x - math.sqrt(a_t) * x0) / math.sqrt(1 - a_t)
        sigma = eta * math.sqrt((1 - a_s) / (1 - a_t)) * math.sqrt(1 - a_t / a_s)
        x = math.sqrt(a_s) * x0 + math.sqrt(1 - a_s - sigma**2) * eps
        x = x + (sigma * noise(move).numpy() if s else 0)
    output = final(Ddim(eta)(denoiser, Schedule.on_grid(path, process), noise))
    np.testing.assert_allclose(output, x, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_is_algorithm_2_of_ho_et_al(variance: str) -> None:
    """x_{t−1} = (x_t − β/√(1 − ᾱ) ε̂)/√(1 − β) + σ z over all timesteps, σ² = β̃ or β."""
    process = Process.linear(40)
    beta = np.linspace(1e-4 * 25, 0.02 * 25, 40)
    alpha_bar = np.cumprod(1 - beta)
    denoiser, noise = crooked(process), Noise(0, range(5), SHAPE)
    x = noise(0).numpy()
    for t in range(40, 0, -1):
        x0 = denoiser(torch.from_numpy(x), process.grid[t]).x0.numpy()
        eps = (x - math.sqrt(alpha_bar[t - 1]) * x0) / math.sqrt(1 - alpha_bar[t - 1])
        x = (x - beta[t - 1] / math.sqrt(1 - alpha_bar[t - 1]) * eps) / math.sqrt(1 - beta[t - 1])
        if t > 1:
            shrunk = (1 - alpha_bar[t - 2]) / (1 - alpha_bar[t - 1]) if variance == "posterior" else 1
            x = x + math.sqrt(shrunk * beta[t - 1]) * noise(41 - t).numpy()
    schedule = Schedule.on_grid(list(range(41)), process)
    np.testing.assert_allclose(final(Ancestral(variance)(denoiser, schedule, noise)), x, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize("c", [0.3, 1.0])
def test_ancestral_with_optimal_variance_has_the_right_marginals(any_process, perfect_denoiser, path, c) -> None:
    """Each move regresses on x_t and adds the variance that x_s has given x_t, so that variances recur as

    V_s = b² V_t + Var(x_s | x_t), b = Cov(x_s, x_t)/Var(x_t); from the prior's variance rather than Var(x_1).
    """
    solver = Ancestral("optimal")
    solver.fit({KIND: exact_statistics(any_process, c)})
    schedule, n = Schedule.on_grid(path, any_process), 100
    levels, preserving = schedule.sigmas(), any_process.variance_preserving
    alphas = [1 / math.sqrt(1 + level**2) if preserving else 1.0 for level in levels]
    variances = [a**2 * (c**2 + level**2) for a, level in zip(alphas, levels, strict=True)]
    now = 1.0 if preserving else levels[0] ** 2
    expected = []
    for i in range(1, len(levels)):
        b = alphas[i] * alphas[i - 1] * (c**2 + levels[i] ** 2) / variances[i - 1]
        left = variances[i] - b**2 * variances[i - 1]
        now = b**2 * now + (left if i < len(levels) - 1 else 0)  # the last move returns the mean alone
        expected.append(now)
    steps = solver(perfect_denoiser(any_process, c**2), schedule, Noise(0, range(n), (1, 8, 8)))
    for step, variance in zip(steps, expected, strict=True):
        measured = step.x.square().mean().item()
        assert measured == pytest.approx(variance, rel=4 * math.sqrt(2 / (n * 64)))
    if preserving:
        assert expected[-2] == pytest.approx(variances[-2], rel=0.02 if len(path) > 3 else 0.2)


@pytest.mark.parametrize("solver", SOLVERS, ids=["ddim", "ddim 0.5", "ddim 1", "beta", "posterior"])
def test_k_steps_are_k_calls_and_end_in_the_last_prediction(any_process: Process, solver: Solver) -> None:
    path = [0, 4, 9, 40]
    denoiser, noise = crooked(any_process), Noise(0, range(2), SHAPE)
    steps = list(solver(denoiser, Schedule.on_grid(path, any_process), noise))
    assert denoiser.calls == 3
    assert [(step.s, step.t) for step in steps] == [(9 / 40, 1.0), (4 / 40, 9 / 40), (0.0, 4 / 40)]
    torch.testing.assert_close(steps[-1].x, steps[-1].x0, rtol=0, atol=1e-12)
    assert all(step.x.dtype == torch.float64 for step in steps)


@pytest.mark.parametrize("solver", SOLVERS, ids=["ddim", "ddim 0.5", "ddim 1", "beta", "posterior"])
def test_every_schedule_starts_from_the_same_noise(any_process: Process, solver: Solver) -> None:
    """Of the prior's scale: 1, or σ_T where α = 1."""
    scale = 1.0 if any_process.variance_preserving else 30.0
    for path in PATHS:
        seen: list[Tensor] = []
        denoiser = Denoiser(lambda x, t, seen=seen: seen.append(x) or torch.zeros_like(x), any_process, "x0")
        next(iter(solver(denoiser, Schedule.on_grid(path, any_process), Noise(7, [3, 8], SHAPE))))
        torch.testing.assert_close(seen[0], scale * Noise(7, [3, 8], SHAPE)(0), rtol=1e-12, atol=0)
        assert len(seen) == 1  # lazily: one move, one call


@pytest.mark.parametrize("solver", SOLVERS, ids=["ddim", "ddim 0.5", "ddim 1", "beta", "posterior"])
def test_gradients_flow_unless_the_caller_stops_them(solver: Solver) -> None:
    process = Process.cosine(40)
    network = nn.Linear(4, 4).double()
    denoiser = Denoiser(lambda x, t: network(x.flatten(1)).reshape(x.shape), process, "x0")
    final(solver(denoiser, Schedule.on_grid([0, 9, 40], process), Noise(0, [0], SHAPE))).sum().backward()
    assert network.weight.grad is not None
    assert bool(network.weight.grad.any())


def test_the_state_stays_float64_around_a_float32_network() -> None:
    process = Process.cosine(1000)
    seen = []

    class Network(nn.Conv2d):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(x.dtype)
            return super().forward(x)

    denoiser = Denoiser(Network(1, 1, 1), process, "v")
    output = final(Ddim()(denoiser, Schedule([0, 0.5, 1], process), Noise(0, [0], SHAPE)))
    assert output.dtype == torch.float64
    assert seen == [torch.float32] * 2


def test_labels_reach_every_call() -> None:
    process, label, seen = Process.cosine(40), torch.tensor([3, 1]), []

    def network(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        seen.append(label)
        return x

    denoiser = Denoiser(network, process, "x0")
    for solver in SOLVERS:
        final(solver(denoiser, Schedule([0, 0.5, 1], process), Noise(0, [0, 1], SHAPE), label))
    assert len(seen) == 2 * len(SOLVERS)
    assert all(given is label for given in seen)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ddim(1.5), r"eta must lie in \[0, 1\]; given was 1.5"),
        (lambda: Ddim(-0.1), "eta must lie in"),
        (lambda: Ddim(math.nan), "eta must lie in"),
        (lambda: Ancestral("guessed"), "'guessed'; allowed are posterior, beta, optimal, learned"),
    ],
)
def test_settings_that_are_none(make: Callable[[], Solver], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


def test_what_does_not_fit_is_a_sentence() -> None:
    process = Process.cosine(40)
    noise = Noise(0, [0], SHAPE)
    for solver in SOLVERS:
        with pytest.raises(UserError, match="cannot be used with"):
            final(solver(crooked(process), Schedule([0, 1], Process.cosine(50)), noise))
    with pytest.raises(UserError, match="needs statistics"):
        final(Ancestral("optimal")(crooked(process), Schedule([0, 1], process), noise))
