"""The deterministic solvers: their order on data whose probability flow is known, and what they share."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.sampling import ROWS, sample
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun

SHAPE = (1, 2, 2)
DEVIATIONS = torch.tensor([0.1, 0.3, 1.0, 2.0], dtype=torch.float64)
SECOND_ORDER = [Heun(), Dpmpp2M()]
ORDERS = [(Ddim(), 1), (Heun(), 2), (Dpmpp2M(), 2)]
PROCESSES = {
    "linear": lambda: Process.linear(1000),
    "cosine": lambda: Process.cosine(1000),
    "cosine from 1/16": lambda: Process.cosine(40, 1 / 16),
    "edm": lambda: Process.edm(40, 0.02, 30.0),
}
SPACINGS: dict[str, Callable[[int], np.ndarray]] = {
    "even": lambda K: np.full(K, 1 / K),
    "waving": lambda K: np.diff(np.linspace(0, 1, K + 1) + 0.06 * np.sin(2 * np.pi * np.linspace(0, 1, K + 1))),
    "short and long in turn": lambda K: np.resize([2, 4], K) / (3 * K),
}


def by_name(solver: object) -> str:
    return getattr(solver, "name", str(solver))


def spaced(process: Process, spacing: str, K: int) -> Schedule:
    """K steps from t = 1 to t_1 = 1/T, `spacing` in log-SNR, off the grid; and the last one, to t = 0."""
    highest, lowest = process.log_snr(process.grid[[1, -1]]).tolist()
    inner = highest + (lowest - highest) * SPACINGS[spacing](K).cumsum()[:-1]
    times = process.time_of_log_snr(torch.from_numpy(inner))
    return Schedule([0, 1 / process.T, *times.tolist(), 1], process)


def at_first_node(solver: Solver, denoiser: Denoiser, schedule: Schedule, noise: Noise) -> Tensor:
    """z = x/α at t_1, the state from which the last step goes to t = 0."""
    *_, before_last, _ = solver(denoiser, schedule, noise)
    assert before_last.s == schedule.times[1]
    return before_last.x / denoiser.process.alpha(schedule.times[1])


def start(process: Process, noise: Noise) -> Tensor:
    """z at t = 1."""
    one = process.grid[-1]
    return noise(0) / process.alpha(one) if process.variance_preserving else process.sigma(one) * noise(0)


def order(steps: list[int], errors: list[float]) -> float:
    """The slope of −log error over log K."""
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def error(solver: Solver, denoiser: Denoiser, spacing: str, K: int) -> float:
    """Root mean square over directions of z/z* − 1 at t_1 for N(0, diag c²).

    z* = z_T √(c² + σ̄_1²)/√(c² + σ̄_T²) by the probability flow.
    """
    process, noise = denoiser.process, Noise(0, range(2), SHAPE)
    schedule = spaced(process, spacing, K)
    first, last = process.noise_level(schedule.times[[1, -1]]).square()
    exact = start(process, noise) * ((DEVIATIONS**2 + first) / (DEVIATIONS**2 + last)).sqrt().reshape(SHAPE)
    ratio = at_first_node(solver, denoiser, schedule, noise) / exact
    torch.testing.assert_close(ratio[0], ratio[1], rtol=1e-9, atol=0)  # all is linear here
    return (ratio - 1).square().mean().sqrt().item()


@pytest.mark.parametrize(("solver", "expected"), ORDERS, ids=by_name)
def test_the_order_shows_from_eight_steps_on(perfect_denoiser, solver: Solver, expected: int) -> None:
    """σ from 4 to 0.1; the slope from K = 8 to 128, and twice the steps at the end."""
    denoiser = perfect_denoiser(Process.edm(40, 0.1, 4.0), torch.diag(DEVIATIONS**2))
    steps = [8, 16, 32, 64, 128]
    errors = [error(solver, denoiser, "even", K) for K in steps]
    assert order(steps, errors) == pytest.approx(expected, abs=0.1)
    assert errors[-2] / errors[-1] == pytest.approx(2**expected, rel=0.03)
    assert errors[-1] < 10 ** (-expected - 1)


@pytest.mark.parametrize(("solver", "expected"), ORDERS, ids=by_name)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("process", PROCESSES)
def test_the_order_holds_on_every_process_and_spacing(
    perfect_denoiser, solver: Solver, expected: int, spacing: str, process: str
) -> None:
    denoiser, steps = perfect_denoiser(PROCESSES[process](), torch.diag(DEVIATIONS**2)), [48, 96, 192]
    errors = [error(solver, denoiser, spacing, K) for K in steps]
    assert order(steps, errors) == pytest.approx(expected, abs=0.1)


@dataclass(frozen=True)
class TwoModes:
    """E[x_0 | z] where x_0 = ±1 + N(0, 0.09), each sign half of the time: not linear in z."""

    process: Process

    def mean(self, z: Tensor, variance: Tensor) -> Tensor:
        """`variance`: σ̄²."""
        return (0.09 * z + variance * torch.tanh(z / (0.09 + variance))) / (0.09 + variance)

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        t = ((timestep + 1) / self.process.T)[:, None, None, None]
        return self.mean(x / self.process.alpha(t), self.process.noise_level(t).square())


@pytest.mark.parametrize(("solver", "expected"), ORDERS, ids=by_name)
@pytest.mark.parametrize(
    "process", [Process.edm(40, 0.05, 10.0), Process.cosine(40, 1 / 16)], ids=["edm", "cosine"]
)
def test_the_order_holds_where_the_denoiser_is_not_linear(solver: Solver, expected: int, process: Process) -> None:
    """Against an adaptive Runge-Kutta method of order 8 for dz/d log σ̄ = z − x̂_0(z, σ̄)."""
    network, noise = TwoModes(process), Noise(3, range(2), SHAPE)
    first, last = process.noise_level(process.grid[[1, -1]]).log().tolist()

    def slope(log_level: float, z: np.ndarray) -> np.ndarray:
        variance = torch.tensor(math.exp(2 * log_level), dtype=torch.float64)
        return z - network.mean(torch.from_numpy(z), variance).numpy()

    z = start(process, noise)
    exact = solve_ivp(slope, (last, first), z.flatten(), "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    denoiser, steps = Denoiser(network, process, "x0"), [64, 128, 256]
    errors = []
    for K in steps:
        found = at_first_node(solver, denoiser, spaced(process, "waving", K), noise)
        errors.append((found.flatten() - torch.from_numpy(exact)).square().mean().sqrt().item())
    assert order(steps, errors) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
@pytest.mark.parametrize("path", [[0, 40], [0, 13, 40], [0, 1, 2, 17, 33, 40], list(range(41))])
def test_a_constant_prediction_moves_all_of_them_alike(
    any_process: Process, solver: Solver, path: list[int]
) -> None:
    """Straight towards it, as DDIM does; and they arrive."""
    constant = torch.tensor([0.3, -1.0, 0.0, 0.7], dtype=torch.float64).reshape(SHAPE)
    denoiser = Denoiser(lambda x, t: constant.expand_as(x), any_process, "x0")
    schedule, noise = Schedule.on_grid(path, any_process), Noise(0, range(3), SHAPE)
    steps, straight = [list(each(denoiser, schedule, noise)) for each in (solver, Ddim())]
    for mine, theirs in zip(steps, straight, strict=True):
        torch.testing.assert_close(mine.x, theirs.x, rtol=1e-9, atol=1e-11)
    assert torch.equal(steps[-1].x, constant.expand(3, *SHAPE))


@pytest.mark.parametrize(("solver", "calls"), [(Heun(), 2 * 3 - 1), (Dpmpp2M(), 3)], ids=by_name)
def test_calls_are_counted_and_the_last_step_returns_the_prediction(perfect_denoiser, solver, calls: int) -> None:
    process = Process.cosine(40, 1 / 16)
    denoiser, noise = perfect_denoiser(process, 0.25), Noise(0, range(2), SHAPE)
    steps = list(solver(denoiser, Schedule.on_grid([0, 4, 9, 40], process), noise))
    assert denoiser.calls == calls
    assert [(step.s, step.t) for step in steps] == [(9 / 40, 1.0), (4 / 40, 9 / 40), (0.0, 4 / 40)]
    states = [noise(0), *(step.x for step in steps)]
    for x, step in zip(states[:-1], steps, strict=True):
        assert torch.equal(step.x0, denoiser(x, torch.tensor(step.t, dtype=torch.float64)).x0)
    assert torch.equal(steps[-1].x, steps[-1].x0)


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_they_are_lazy_and_start_from_the_priors_noise(any_process: Process, solver: Solver) -> None:
    seen: list[Tensor] = []
    denoiser = Denoiser(lambda x, t: seen.append(x) or torch.zeros_like(x), any_process, "x0")
    noise = Noise(7, [3, 8], SHAPE)
    steps = solver(denoiser, Schedule.on_grid([0, 9, 40], any_process), noise)
    assert not seen
    next(iter(steps))
    assert len(seen) == (2 if solver.name == "heun" else 1)
    scale = 1.0 if any_process.variance_preserving else 30.0
    torch.testing.assert_close(seen[0], scale * noise(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_gradients_reach_every_call_unless_the_caller_stops_them(solver: Solver) -> None:
    process = Process.cosine(40)
    outputs: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        output = torch.tanh(x).requires_grad_()
        output.retain_grad()
        outputs.append(output)
        return output

    schedule, noise = Schedule.on_grid([0, 2, 9, 30, 40], process), Noise(0, [0], SHAPE)
    *_, last = solver(Denoiser(network, process, "x0"), schedule, noise)
    last.x.sum().backward()
    assert len(outputs) == (7 if solver.name == "heun" else 4)
    assert all(output.grad is not None and bool(output.grad.any()) for output in outputs)
    with torch.no_grad():
        *_, last = solver(Denoiser(lambda x, t: torch.tanh(x), process, "x0"), schedule, noise)
    assert not last.x.requires_grad


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_labels_reach_every_call(solver: Solver) -> None:
    process, label, seen = Process.cosine(40), torch.tensor([3, 1]), []
    denoiser = Denoiser(lambda x, t, label: seen.append(label) or x, process, "x0")
    list(solver(denoiser, Schedule([0, 0.3, 0.5, 1], process), Noise(0, [0, 1], SHAPE), label))
    assert len(seen) == denoiser.calls >= 3
    assert all(given is label for given in seen)


class Mixing(nn.Module):
    """A float32 network whose matrix product may round differently for other numbers of rows."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(64, 64, generator=generator) / 8)
        self.seen: set[torch.dtype] = set()

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        self.seen.add(x.dtype)
        return torch.tanh(x.flatten(1) @ self.weight + timestep[:, None] / 40).reshape(x.shape)


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_samples_do_not_depend_on_their_company(solver: Solver) -> None:
    process = Process.cosine(40, 1 / 16)
    network = Mixing()
    denoiser, schedule = Denoiser(network, process, "edm"), Schedule.on_grid([0, 3, 9, 20, 40], process)
    together = sample(denoiser, solver, schedule, range(ROWS + 9), 0, (1, 8, 8))
    assert together.dtype == torch.float64
    assert network.seen == {torch.float32}
    assert len({image.numpy().tobytes() for image in together}) == ROWS + 9
    for part in ([5], [ROWS + 3, 2, 77, 2], list(range(ROWS - 3, ROWS + 4))):
        assert torch.equal(sample(denoiser, solver, schedule, part, 0, (1, 8, 8)), together[part])


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_a_schedule_of_another_process_is_a_sentence(solver: Solver) -> None:
    process = Process.cosine(40)
    denoiser = Denoiser(lambda x, t: x, process, "x0")
    for other in (Process.cosine(50), Process.edm(40), Process.linear(40)):
        with pytest.raises(UserError, match=r"This schedule was made for .* and cannot be used with"):
            list(solver(denoiser, Schedule([0, 0.5, 1], other), Noise(0, [0], SHAPE)))
    assert denoiser.calls == 0


@pytest.mark.parametrize("solver", SECOND_ORDER, ids=by_name)
def test_there_is_nothing_to_choose_or_to_fit(solver: Solver) -> None:
    assert solver.variance is None
    assert tuple(solver.needs) == ()
    solver.fit({})
