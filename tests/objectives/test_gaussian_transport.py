"""The value against the real solver on Gaussian data, the table against the value, dp against brute force."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.gaussian_transport import GaussianTransport
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.covariance import KIND, DataCovariance, MeasuredCovariance

OBJECTIVE = GaussianTransport()
PATHS = [[0, 40], [0, 1, 40], [0, 3, 17, 40], [0, 2, 5, 9, 16, 25, 33, 40], list(range(41))]


def statistics(process: Process, standard_deviations: Sequence[float]) -> dict[str, MeasuredCovariance]:
    """Of data with these standard deviations along the axes."""
    c = torch.tensor(standard_deviations, dtype=torch.float64)
    data = DataCovariance(torch.zeros_like(c), c.square(), torch.eye(len(c), dtype=torch.float64))
    return {KIND: MeasuredCovariance(process=process, data=data, n_images=100, split="train")}


def network(process: Process) -> Denoiser:
    return Denoiser(lambda x, time: x, process, "x0")


class Unit:
    """Noise that is one unit vector per image, so that the solver's output is the columns of its linear map."""

    def __init__(self, dimensions: int) -> None:
        self.vectors = torch.eye(dimensions, dtype=torch.float64).reshape(dimensions, 1, 1, dimensions)

    def __call__(self, index: int) -> Tensor:
        return self.vectors


def gains(denoiser: Denoiser, basis: Tensor, schedule: Schedule) -> Tensor:
    """What DDIM makes of x_1 in this basis, [D, D]."""
    process, D = denoiser.process, len(basis)
    *_, last = Ddim()(denoiser, schedule, Unit(D))
    scale = 1 if process.variance_preserving else process.sigma(process.grid[-1])
    return basis.T @ last.x.reshape(D, D).T @ basis / scale


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{len(path) - 1} steps")
def test_the_value_is_the_error_of_the_real_solver(
    path: list[int], any_process: Process, perfect_denoiser: Callable[..., Denoiser]
) -> None:
    """DDIM with the exact denoiser for correlated pixels, last step to 0 included, against the exact solution.

    From x_1 ~ N(0, α² C + σ² I), direction by direction and in sum.
    """
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mixing *= torch.tensor([1.5, 0.6, 0.2, 0.05, 0.01, 0.3], dtype=torch.float64)
    variances, basis = torch.linalg.eigh(mixing @ mixing.T)
    schedule = Schedule.on_grid(path, any_process)
    solver = gains(perfect_denoiser(any_process, mixing @ mixing.T), basis, schedule)
    torch.testing.assert_close(solver, solver.diagonal().diag(), rtol=0, atol=1e-9)
    last = any_process.grid[-1]
    start = any_process.alpha(last) ** 2 * variances + any_process.sigma(last) ** 2
    exact = (variances / start).sqrt()
    for c, of_solver, of_exact in zip(variances.sqrt(), solver.diagonal(), exact, strict=True):
        ratio = 1 - math.sqrt(OBJECTIVE.value(statistics(any_process, [c]), schedule)) / c
        assert ratio == pytest.approx((of_solver / of_exact).item(), rel=1e-6)
    data = DataCovariance(torch.zeros(6, dtype=torch.float64), variances, basis)
    measured = MeasuredCovariance(process=any_process, data=data, n_images=100, split="train")
    error = ((solver.diagonal() - exact).square() * start).sum().item()
    assert OBJECTIVE.value({KIND: measured}, schedule) == pytest.approx(error, rel=1e-6)


def test_evenly_spaced_angles_keep_the_known_share_of_the_standard_deviation() -> None:
    """Data N(0, 0.25), 6 steps from σ = 80 with angles even down to 0.002: 0.814 of it (the tangent law)."""
    process = Process.edm(20_000, 0.002, 80.0)
    angles = torch.linspace(math.atan(0.002 / 0.5), math.atan(80 / 0.5), 7, dtype=torch.float64)[1:]
    times = process.time_of_log_snr(-2 * torch.log(0.5 * torch.tan(angles)))
    schedule = Schedule([0.0, *times[:-1].tolist(), 1.0], process)
    ratio = 1 - math.sqrt(OBJECTIVE.value(statistics(process, [0.5]), schedule) / 0.25)
    assert ratio == pytest.approx(0.814, abs=5e-4)


# The table


def test_the_table_is_the_sum_over_directions(any_process: Process) -> None:
    """Entry by entry, from angles; also where it is worked out at fewer points than there are directions."""
    few = [1.3, 0.4, 0.02]
    many = torch.logspace(-2, 0.2, 400, dtype=torch.float64).tolist()
    levels = any_process.noise_level(any_process.grid)
    for c in (torch.tensor(few, dtype=torch.float64), torch.tensor(many, dtype=torch.float64)):
        angles = torch.atan2(levels[:, None], c)
        table = OBJECTIVE.edge_costs(statistics(any_process, c.tolist()))
        assert torch.equal(table.times, any_process.grid)
        for s, t in [(0, 1), (0, 40), (1, 2), (7, 30), (39, 40)]:
            expected = -(c.square() * torch.cos(angles[t] - angles[s]).log()).sum().item()
            assert table.costs[s, t].item() == pytest.approx(
                expected, rel=1e-6, abs=1e-9 * c.square().sum().item()
            )


def test_tiny_steps_do_not_cancel() -> None:
    """−log cos Δθ = Δθ²/2 to first order, where 1 − cos Δθ has lost all digits in the last places."""
    process = Process.edm(1_000, 1.0, 1.0 + 1e-6)
    cost = OBJECTIVE.edge_costs(statistics(process, [1.0])).costs[499, 500].item()
    step = (process.noise_level(process.grid[500]) - process.noise_level(process.grid[499])).item() / 2
    assert cost == pytest.approx(step**2 / 2, rel=1e-4)
    assert cost < 1e-17


def test_a_constant_pixel_costs_nothing(any_process: Process) -> None:
    with_it, without = (statistics(any_process, c) for c in ([0.5, 0.0], [0.5]))
    schedule = Schedule.on_grid(PATHS[2], any_process)
    assert OBJECTIVE.value(with_it, schedule) == OBJECTIVE.value(without, schedule)
    for around in (None, schedule):
        costs = [OBJECTIVE.edge_costs(found, around).costs for found in (with_it, without)]
        assert torch.equal(*costs)
    nearly = statistics(any_process, [0.5, 1e-5])
    assert 0 < OBJECTIVE.value(nearly, schedule) - OBJECTIVE.value(without, schedule) <= 1e-10  # c² at most


def test_the_table_around_a_path_has_the_slope_of_the_value() -> None:
    """Moving one node by a cell either way changes both alike, to second order in a cell."""
    for c in ([0.7, 0.1, 0.02], torch.logspace(-2, 0.2, 300, dtype=torch.float64).tolist()):
        for T, tolerance in ((500, 1e-2), (2000, 1e-3)):
            process = Process.cosine(T, 1 / 16)
            measured = statistics(process, c)
            path = [0, T // 10, T // 3, T // 2, T]
            table = OBJECTIVE.edge_costs(measured, Schedule.on_grid(path, process))
            for i in (1, 2, 3):
                moved = [[*path[:i], path[i] + by, *path[i + 1 :]] for by in (-1, 1)]
                values = [OBJECTIVE.value(measured, Schedule.on_grid(one, process)) for one in moved]
                totals = [table.total(one) for one in moved]
                assert totals[1] - totals[0] == pytest.approx(values[1] - values[0], rel=tolerance)


# What dp finds


@pytest.mark.parametrize("K", range(3, 9))
def test_isotropic_data_want_evenly_spaced_angles(K: int) -> None:
    """θ = arctan(σ/c) uniform from 0, where the solver's last step goes, to θ_T: to within a cell of the grid."""
    c = 0.5
    for process in (Process.cosine(2000), Process.edm(2000, 0.002, 80.0)):
        found = Dp()(OBJECTIVE, statistics(process, [c] * 12), network(process), [K])[K]
        angles = torch.atan(process.noise_level(process.grid) / c)
        even = torch.linspace(0, angles[-1].item(), K + 1, dtype=torch.float64)
        nearest = (angles - even[:, None]).abs().argmin(1)
        assert (torch.tensor(found.indices) - nearest).abs().max() <= 1
        ideal = 0.25 * 12 * (1 - math.cos(angles[-1].item() / K) ** K) ** 2
        assert OBJECTIVE.value(statistics(process, [c] * 12), found) == pytest.approx(ideal, rel=1e-4)


@pytest.mark.parametrize("K", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "process", [Process.edm(24, 0.01, 80.0), Process.cosine(24, 1 / 16)], ids=["edm", "cosine"]
)
@pytest.mark.parametrize("scales", [(1.0, 1, 0.05, 30), (0.5, 2, 0.1, 10), (1.0, 1, 0.2, 5)], ids=str)
def test_two_scales_want_what_brute_force_finds(
    scales: tuple[float, int, float, int], process: Process, K: int
) -> None:
    large, n_large, small, n_small = scales
    measured = statistics(process, [large] * n_large + [small] * n_small)
    found = Dp()(OBJECTIVE, measured, network(process), [K])[K]
    paths = [[0, *inner, 24] for inner in itertools.combinations(range(1, 24), K - 1)]
    values = error_by_angles(process, scales, paths)
    assert found.indices == paths[int(values.argmin())]
    assert found.provenance["found"]["value"] == pytest.approx(values.min().item(), rel=1e-9)


def error_by_angles(process: Process, scales: tuple[float, int, float, int], paths: list[list[int]]) -> Tensor:
    levels = process.noise_level(process.grid)[torch.tensor(paths)]
    total = torch.zeros(len(paths), dtype=torch.float64)
    for c, n in (scales[:2], scales[2:]):
        ratio = torch.cos(torch.atan(levels / c).diff()).prod(1)
        total += n * c**2 * (1 - ratio).square()
    return total


# The loss


def test_the_loss_is_the_value_and_calls_no_network() -> None:
    process = Process.cosine(40, 1 / 16)
    measured, denoiser = statistics(process, [1.0, 0.3, 0.01]), network(process)
    schedule = Schedule.on_grid(PATHS[3], process)
    x0 = torch.zeros(2, 1, 1, 3)
    loss = OBJECTIVE.loss(denoiser, x0, schedule.times, Noise(0, range(2), (1, 1, 3))(0), measured)
    assert loss.item() == OBJECTIVE.value(measured, schedule)
    assert denoiser.calls == 0
    assert OBJECTIVE.time_weights(measured, schedule) is None


def test_its_gradient_is_that_of_central_differences(any_process: Process) -> None:
    measured, denoiser = statistics(any_process, [1.0, 0.3, 0.01]), network(any_process)
    times = torch.tensor([0, 0.11, 0.33, 0.71, 1], dtype=torch.float64)
    x0 = torch.zeros(1, 1, 1, 3)

    def loss(at: Tensor) -> Tensor:
        return OBJECTIVE.loss(denoiser, x0, at, x0, measured)

    moving = times.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(moving), moving)
    assert torch.isfinite(slope).all()
    for i in (1, 2, 3):
        step = torch.zeros(5, dtype=torch.float64)
        step[i] = 1e-6
        difference = (loss(times + step) - loss(times - step)).item() / 2e-6
        assert slope[i].item() == pytest.approx(difference, rel=1e-5)


# Refusals


def test_missing_statistics_are_named() -> None:
    process = Process.cosine(10)
    schedule = Schedule.on_grid([0, 10], process)
    for given, words in (({}, "none"), ({"denoising_error": None}, "denoising_error")):
        with pytest.raises(UserError, match=f"needs statistics of the kind 'covariance'; given were {words}"):
            OBJECTIVE.value(given, schedule)
        with pytest.raises(UserError, match="needs statistics of the kind 'covariance'"):
            OBJECTIVE.edge_costs(given)


def test_images_that_do_not_vary_are_refused() -> None:
    process = Process.cosine(10)
    with pytest.raises(UserError, match="images are all the same"):
        OBJECTIVE.edge_costs(statistics(process, [0.0, 0.0]))


def test_a_schedule_of_another_process_is_refused() -> None:
    measured = statistics(Process.cosine(10), [1.0])
    schedule = Schedule.on_grid([0, 5, 10], Process.cosine(10, 0.1))
    with pytest.raises(UserError, match="was made for"):
        OBJECTIVE.value(measured, schedule)
    with pytest.raises(UserError, match="was made for"):
        OBJECTIVE.edge_costs(measured, schedule)
