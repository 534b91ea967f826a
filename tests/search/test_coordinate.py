"""Coordinate search against brute force and against closed forms on Gaussian data, within its evaluations."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.gaussian_transport import GaussianTransport
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.coordinate import Coordinate
from fewstep.search.starts import RULES
from fewstep.statistics.covariance import KIND as COVARIANCE
from fewstep.statistics.covariance import DataCovariance, MeasuredCovariance
from fewstep.statistics.denoising_error import KIND

T, C = 100, 0.5
MANY = 10_000  # evaluations: enough for any descent here


def covariance(process: Process, c: float) -> dict[str, MeasuredCovariance]:
    """Of isotropic data."""
    one = torch.ones(4, dtype=torch.float64)
    data = DataCovariance(0 * one, c**2 * one, torch.eye(4, dtype=torch.float64))
    return {COVARIANCE: MeasuredCovariance(process=process, data=data, n_images=100, split="train")}


def network(process: Process) -> Denoiser:
    return Denoiser(lambda x, time: x, process, "x0")


class Counting(Objective):
    """Another objective's value, every evaluation of which is written down; no table."""

    name = "counting"
    unit = "cost"

    def __init__(self, objective: Objective) -> None:
        self.objective, self.needs = objective, objective.needs
        self.asked: list[list[int]] = []

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        self.asked.append(schedule.indices)
        return self.objective.image_values(statistics, schedule)


@pytest.mark.parametrize(
    "objective", [ElboObjective("posterior"), Discretization(), MseReweighted()], ids=lambda one: one.name
)
@pytest.mark.parametrize(
    "process", [Process.cosine(T, 1 / 16), Process.edm(T, 1 / 16, 30.0)], ids=["cosine", "edm"]
)
def test_sums_over_steps_of_gaussian_data_end_at_the_best_of_all_paths(
    process: Process,
    objective: Objective,
    perfect_denoiser: Callable[..., Denoiser],
    measure: Callable[..., Any],
) -> None:
    """From rules to within 1 %: a node may end where it serves nothing. To the very path where dp's is a start."""
    generator = torch.Generator().manual_seed(0)
    images = C * torch.randn(16, 1, 2, 2, generator=generator, dtype=torch.float64)
    grey = ((images.clamp(-1, 1) + 1) * 8).round() / 8 - 1
    denoiser = perfect_denoiser(process, C**2)
    statistics = {KIND: measure(grey, denoiser)}
    table = objective.edge_costs(statistics).costs
    paths = torch.tensor([[0, *inner, T] for inner in itertools.combinations(range(1, T), 2)])
    totals = table[paths[:, :-1], paths[:, 1:]].sum(1)
    best = paths[int(totals.argmin())].tolist()
    found = Coordinate(MANY, [*RULES], levels=17, data_std=C)(objective, statistics, denoiser, [3])[3]
    assert found.provenance["found"]["settled"]
    assert table[found.indices[:-1], found.indices[1:]].sum() <= totals.min() * 1.01
    assert Coordinate(MANY)(objective, statistics, denoiser, [3])[3].indices == best


@pytest.mark.parametrize("start", RULES)
@pytest.mark.parametrize("process", [Process.cosine(500), Process.edm(500, 0.002, 80.0)], ids=["cosine", "edm"])
def test_isotropic_data_want_evenly_spaced_angles_from_every_start(process: Process, start: str) -> None:
    """θ = arctan(σ/c) uniform (Align Your Steps, Theorem 3.1), wherever the nodes begin."""
    statistics = covariance(process, C)
    angles = torch.atan(process.noise_level(process.grid) / C)
    for K in (3, 6):
        found = Coordinate(MANY, [start], data_std=2.0)(GaussianTransport(), statistics, network(process), [K])[K]
        ideal = 4 * C**2 * (1 - math.cos(angles[-1].item() / K) ** K) ** 2
        assert found.provenance["found"]["value"] == pytest.approx(ideal, rel=2e-3)
        even = torch.linspace(0, angles[-1].item(), K + 1, dtype=torch.float64)
        assert (angles[found.indices] - even).abs().max() < 0.03


def test_no_move_of_a_node_to_its_neighbour_gains_where_it_settled() -> None:
    process, objective = Process.cosine(200, 1 / 16), GaussianTransport()
    statistics = covariance(process, 0.3)
    path = Coordinate(MANY, ["karras"])(objective, statistics, network(process), [5])[5].indices
    value = objective.value(statistics, Schedule.on_grid(path, process))
    for i, by in itertools.product(range(1, 5), (-1, 1)):
        moved = [*path[:i], path[i] + by, *path[i + 1 :]]
        assert objective.value(statistics, Schedule.on_grid(moved, process)) >= value


@pytest.mark.parametrize("evaluations", [4, 7, 30])
def test_it_keeps_to_its_evaluations_and_ends_with_the_best_of_them(evaluations: int) -> None:
    process = Process.cosine(200, 1 / 16)
    objective = Counting(GaussianTransport())
    statistics = covariance(process, 0.3)
    schedule = Coordinate(evaluations, [*RULES])(objective, statistics, network(process), [6])[6]
    found = schedule.provenance["found"]
    assert len(objective.asked) == evaluations == found["evaluations"]
    assert not found["settled"]
    assert len({tuple(path) for path in objective.asked}) == evaluations  # nothing is evaluated twice
    values = [objective.objective.value(statistics, Schedule.on_grid(path, process)) for path in objective.asked]
    assert found["value"] == min(values)
    assert schedule.indices == objective.asked[values.index(min(values))]
    assert found["starts"][found["start"]] == min(found["starts"].values())


def test_the_path_of_another_objective_is_a_start() -> None:
    """One evaluation is enough where dp of the other objective leads to the optimum."""
    process = Process.cosine(200)
    statistics = covariance(process, C)
    search = Coordinate(1, starts=[], paths_of=[GaussianTransport()])
    assert tuple(search.needs) == (COVARIANCE,)
    found = search(Counting(GaussianTransport()), statistics, network(process), [6])[6]
    assert found.provenance["found"]["start"] == "gaussian_transport_dp"
    end = torch.atan(process.noise_level(process.grid[-1]) / C).item()
    assert found.provenance["found"]["value"] == pytest.approx(
        4 * C**2 * (1 - math.cos(end / 6) ** 6) ** 2, rel=2e-3
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluations": 0},
        {"evaluations": True},
        {"evaluations": 4},
        {"starts": ["cold"]},
        {"starts": "dp"},
        {"starts": []},
        {"paths_of": [Counting(GaussianTransport())]},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Coordinate(**settings)


class Broken(Counting):
    """Its value is the same wherever, and no number to compare."""

    def __init__(self, value: float) -> None:
        super().__init__(GaussianTransport())
        self.number = value

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        return torch.tensor([self.number])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_told(value: float) -> None:
    process = Process.cosine(T)
    with pytest.raises(UserError, match=r"not a number|finite"):
        Coordinate()(Broken(value), {}, network(process), [3])
