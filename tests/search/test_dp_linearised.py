"""Dp for objectives whose table is linearised around a path: one table after another, the best true value kept."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp, optimal_paths
from fewstep.search.linearisation import MOST_LINEARISATIONS, successive_linearisation

T = 12
PROCESS = Process.cosine(T, 1 / 16)
DENOISER = Denoiser(lambda x, time: x, PROCESS, "x0")


class SumOfFunctions(Objective):
    """Σ_j f(Σ_steps C_j[s, t]) of random tables C_j: linearised, its table is Σ_j f'(…) C_j.

    Args:
        bend: f(x) = x^bend; 1 makes it additive, below 1 concave.
        seed: of the tables.
    """

    name = "sum_of_functions"
    unit = "cost"
    needs: Sequence[str] = ()
    linearised = True

    def __init__(self, bend: float, seed: int = 0) -> None:
        self.bend = bend
        generator = torch.Generator().manual_seed(seed)
        self.tables = 0.1 + torch.rand(3, T + 1, T + 1, generator=generator, dtype=torch.float64)
        self.asked: list[Schedule | None] = []

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        self.asked.append(around)
        slope = torch.ones(3, dtype=torch.float64)
        if around is not None:
            slope = self.bend * self.sums(around.indices) ** (self.bend - 1)
        costs = torch.tensordot(slope, self.tables, 1)
        return CostTable(
            PROCESS.grid, costs.masked_fill(torch.ones_like(costs).bool().tril(), math.inf), self.unit
        )

    def sums(self, path: Sequence[int]) -> Tensor:
        return self.tables[:, path[:-1], path[1:]].sum(1)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        return (self.sums(schedule.indices) ** self.bend).sum()[None]


@pytest.mark.parametrize("bend", [0.2, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_linearisation_is_kept_and_none_is_better_than_brute_force(bend: float, seed: int) -> None:
    objective = SumOfFunctions(bend, seed)
    for K, schedule in Dp()(objective, {}, DENOISER, [2, 3, 5]).items():
        value, found = objective.value({}, schedule), schedule.provenance["found"]
        assert found["value"] == value
        first = optimal_paths(objective.edge_costs({}).costs, [K])[K]
        assert value <= objective.value({}, Schedule.on_grid(first, PROCESS))
        asked = [around for around in objective.asked if around is not None and around.steps == K]
        assert 1 <= found["linearisations"] <= MOST_LINEARISATIONS
        assert value == min(objective.value({}, around) for around in asked)
        paths = [[0, *inner, T] for inner in itertools.combinations(range(1, T), K - 1)]
        assert value >= min(objective.value({}, Schedule.on_grid(path, PROCESS)) for path in paths) * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_linearisations_of_a_concave_objective_never_rise(seed: int) -> None:
    """A tangent lies above a concave function, so that what lowers it lowers the objective."""
    objective = SumOfFunctions(0.3, seed)

    def next_after(schedule: Schedule) -> Schedule:
        costs = objective.edge_costs({}, schedule).costs
        return Schedule.on_grid(optimal_paths(costs, [4])[4], PROCESS)

    first = Schedule.on_grid([0, 1, 2, 3, T], PROCESS)
    found = successive_linearisation(first, next_after, lambda schedule: objective.value({}, schedule))
    assert found.values == sorted(found.values, reverse=True)
    assert len(found.values) > 1
    assert found.value == found.values[-1]


def test_a_sum_over_steps_takes_one_table_and_is_exact() -> None:
    objective = SumOfFunctions(1.0)
    found = Dp()(objective, {}, DENOISER, [3, 4])
    assert {K: schedule.indices for K, schedule in found.items()} == optimal_paths(
        objective.edge_costs({}).costs, [3, 4]
    )
    assert [schedule.provenance["found"]["linearisations"] for schedule in found.values()] == [1, 1]


def test_all_k_share_the_first_table() -> None:
    objective = SumOfFunctions(0.5)
    Dp()(objective, {}, DENOISER, [2, 3, 4, 5])
    assert sum(around is None for around in objective.asked) == 1


def test_linearisations_that_cycle_end_with_the_best_path() -> None:
    cycle = [Schedule.on_grid([0, i, T], PROCESS) for i in (3, 5, 4)]
    values = {3: 7.0, 5: 2.0, 4: 6.0}
    following = {3: cycle[1], 5: cycle[2], 4: cycle[0]}
    found = successive_linearisation(
        cycle[0], lambda schedule: following[schedule.indices[1]], lambda schedule: values[schedule.indices[1]]
    )
    assert found.values == [7.0, 2.0, 6.0]
    assert found.value == 2.0
    assert found.schedule == cycle[1]


def test_linearisations_stop_at_their_most() -> None:
    def next_after(schedule: Schedule) -> Schedule:
        return Schedule.on_grid([0, schedule.indices[1] + 1, T], PROCESS)

    first = Schedule.on_grid([0, 1, T], PROCESS)
    found = successive_linearisation(first, next_after, lambda schedule: 0.0, most=4)
    assert len(found.values) == 4
    assert found.schedule.indices == [0, 1, T]


def test_what_was_found_survives_the_schedules_file(tmp_path) -> None:
    schedule = Dp()(SumOfFunctions(0.5), {}, DENOISER, [3])[3]
    schedule.save(tmp_path / "schedule.json")
    assert Schedule.load(tmp_path / "schedule.json").provenance == schedule.provenance
