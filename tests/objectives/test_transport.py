"""Transport on Gaussian data: errors in closed form, the schedule even in angle, dp against brute force."""

import itertools
from typing import Any

import pytest
import torch

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.coherent_transport import CoherentTransport
from fewstep.objectives.transport import Transport
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.solvers.ddim import Ddim
from tests.objectives.teachers import exact_denoiser, teacher_statistics

C = (1.0, 0.3, 0.05)
PROCESS = Process.edm(300, 0.004, 60.0)
FINE, COARSE = 120, 8


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return exact_denoiser(PROCESS, C)


@pytest.fixture(scope="module")
def fine(denoiser: Denoiser) -> dict[str, Any]:
    return teacher_statistics(denoiser, C, FINE, 24)


@pytest.fixture(scope="module")
def coarse(denoiser: Denoiser) -> dict[str, Any]:
    return teacher_statistics(denoiser, C, COARSE, 24)


def test_the_second_moment_of_an_error_is_that_of_two_linear_maps(fine: dict[str, Any]) -> None:
    """Along an axis both the step and the teacher multiply z_t: δ = (step − teacher) z_t, carried to the end."""
    teacher, c = fine["teacher_trajectories"], torch.tensor(C, dtype=torch.float64)
    table, sigma = Transport().edge_costs(fine), teacher.noise_levels
    gain = c.square() / (c.square() + sigma[:, None].square())

    def moved(s: int, t: int) -> torch.Tensor:
        return sigma[s] / sigma[t] + (1 - sigma[s] / sigma[t]) * gain[t]

    squared = (teacher.noise(0) * sigma[-1]).flatten(1).square().mean(0)  # E z_T²
    for s, t in [(0, FINE), (0, 40), (1, 30), (17, 60), (50, 52), (80, FINE)]:
        before = torch.stack([moved(i - 1, i) for i in range(t + 1, FINE + 1)] or [torch.ones(3)]).prod(0)
        by_teacher = torch.stack([moved(i - 1, i) for i in range(s + 1, t + 1)]).prod(0)
        carried = c.square() / (c.square() + sigma[s].square())
        expected = (carried * (moved(s, t) - by_teacher).square() * before.square() * squared).sum()
        assert table.costs[s, t].item() == pytest.approx(expected.item(), rel=1e-4)


def test_with_many_fine_steps_a_step_costs_what_its_angle_says(fine: dict[str, Any]) -> None:
    """E‖δ‖² → Σ c² (1 − cos(θ_t − θ_s))², θ = arctan(σ/c): the step's gain over that of the exact solution."""
    teacher, c = fine["teacher_trajectories"], torch.tensor(C, dtype=torch.float64)
    sigma, costs, M = teacher.noise_levels, Transport().edge_costs(fine).costs, FINE
    drawn = teacher.noise(0).flatten(1).square().mean(0)  # near 1
    theta = torch.atan(sigma[:, None] / c)
    for s, t in [(0, M // 2), (M // 3, M // 2), (M // 2, 3 * M // 4), (M // 2, M)]:
        expected = (drawn * c.square() * (1 - torch.cos(theta[t] - theta[s])).square()).sum().item()
        assert costs[s, t].item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("objective", [Transport(), Transport(1), CoherentTransport()], ids=["2", "1", "coherent"])
def test_of_one_standard_deviation_the_best_schedule_is_even_in_angle(objective: Any) -> None:
    """A sum of convex functions of angles, and of the product of cosines: both are least where angles are even."""
    denoiser = exact_denoiser(PROCESS, [0.5])
    statistics = teacher_statistics(denoiser, [0.5], FINE, 8)
    fine = torch.atan(statistics["teacher_trajectories"].noise_levels / 0.5)
    cell = fine.diff().max().item()
    for K, schedule in Dp()(objective, statistics, denoiser, [2, 3, 5]).items():
        found = torch.atan(PROCESS.noise_level(schedule.times) / 0.5)
        even = torch.linspace(0, found[-1].item(), K + 1, dtype=torch.float64)
        assert (found - even).abs().max() < 1.5 * cell


@pytest.mark.parametrize("power", [1, 2])
def test_dp_finds_the_best_of_all_paths(power: int, coarse: dict[str, Any], denoiser: Denoiser) -> None:
    objective, times = Transport(power), coarse["teacher_trajectories"].times
    for K, found in Dp()(objective, coarse, denoiser, [1, 2, 3, 5]).items():
        values = [objective.value(coarse, Schedule(times[path], PROCESS)) for path in _paths(K)]
        assert objective.value(coarse, found) == pytest.approx(min(values), rel=1e-12)


def test_the_coherent_error_is_the_solvers_to_first_order(fine: dict[str, Any], denoiser: Denoiser) -> None:
    """Against the K-step solver's own output, from the same noise; nearer with more steps."""
    teacher, off = fine["teacher_trajectories"], []
    for steps in (6, 24):
        schedule = Schedule(teacher.times[:: FINE // steps], PROCESS)
        *_, last = Ddim()(denoiser, schedule, teacher.noise)
        true = (last.x - teacher.D[0].double()).square().flatten(1).sum(1)
        found = CoherentTransport().image_values(fine, schedule)
        off.append((found.mean() / true.mean() - 1).abs().item())
    assert off[1] < 0.1
    assert off[1] < off[0] / 2


def test_every_table_of_the_coherent_error_bounds_it_and_touches_it(coarse: dict[str, Any]) -> None:
    objective, times = CoherentTransport(), coarse["teacher_trajectories"].times
    values = {
        K: [objective.value(coarse, Schedule(times[path], PROCESS)) for path in _paths(K)] for K in (2, 3, 6)
    }
    for path in ([0, 4, COARSE], [0, 1, 5, COARSE], [0, 2, 3, 6, 7, COARSE]):
        around = Schedule(times[path], PROCESS)
        table = objective.edge_costs(coarse, around)
        assert table.total(path) == pytest.approx(objective.value(coarse, around), rel=1e-9)
        for K, of_paths in values.items():
            bounds = [table.total(other) for other in _paths(K)]
            assert all(bound > value * (1 - 1e-9) for bound, value in zip(bounds, of_paths, strict=True))


def test_a_table_around_a_schedule_between_fine_nodes_touches_there(fine: dict[str, Any]) -> None:
    """Its nodes are no nodes of the table; its neighbours' bound is near its value."""
    objective, teacher = CoherentTransport(), fine["teacher_trajectories"]
    times = teacher.times[[0, 30, 70, FINE]].clone()
    times[1:3] += torch.tensor([0.3, 0.6]) / PROCESS.T
    around = Schedule(times, PROCESS)
    total = objective.edge_costs(fine, around).total([0, 30, 70, FINE])
    assert total == pytest.approx(objective.value(fine, around), rel=0.05)


def test_dp_leads_the_coherent_error_downhill(fine: dict[str, Any], denoiser: Denoiser) -> None:
    objective = CoherentTransport()
    first = Schedule(fine["teacher_trajectories"].times[[0, 10, 20, 30, 40, FINE]], PROCESS)
    before = after = objective.value(fine, first)
    for _ in range(3):
        schedule = Dp()._best(objective, objective.edge_costs(fine, first), PROCESS, [5])[5]
        after = objective.value(fine, schedule)
        assert after <= before * (1 + 1e-9)
        first, before = schedule, after
    best = objective.value(fine, Dp()(objective, fine, denoiser, [5])[5])
    assert best <= objective.value(fine, Dp()(Transport(), fine, denoiser, [5])[5])


def test_no_path_of_the_coarse_teacher_is_much_better(coarse: dict[str, Any], denoiser: Denoiser) -> None:
    objective, times = CoherentTransport(), coarse["teacher_trajectories"].times
    for K, found in Dp()(objective, coarse, denoiser, [2, 3, 4]).items():
        values = [objective.value(coarse, Schedule(times[path], PROCESS)) for path in _paths(K)]
        assert objective.value(coarse, found) <= 1.05 * min(values)


def test_what_does_not_fit_is_refused(coarse: dict[str, Any], denoiser: Denoiser) -> None:
    with pytest.raises(UserError, match="power of transport must be 1 or 2; given was 3"):
        Transport(3)
    with pytest.raises(
        UserError, match="is of a teacher of 8 steps, so that no schedule can have more; given was 9"
    ):
        Dp()(Transport(), coarse, denoiser, [4, 9])
    with pytest.raises(UserError, match="cannot serve a model of"):
        Dp()(Transport(), coarse, exact_denoiser(Process.cosine(300), C), [4])
    with pytest.raises(UserError, match="needs statistics of the kind 'teacher_trajectories'"):
        Transport().edge_costs({"covariance": coarse["covariance"]})
    with pytest.raises(UserError, match="needs statistics of the kind 'covariance'"):
        Transport().edge_costs({"teacher_trajectories": coarse["teacher_trajectories"]})
    other = teacher_statistics(exact_denoiser(PROCESS, [1.0]), [1.0], 4, 2)["covariance"]
    with pytest.raises(UserError, match="covariance is of images of 1 dimensions, the trajectories of 3"):
        Transport().edge_costs({**coarse, "covariance": other})


def _paths(K: int) -> list[list[int]]:
    """Every path of K steps over the coarse nodes."""
    return [[0, *inner, COARSE] for inner in itertools.combinations(range(1, COARSE), K - 1)]
