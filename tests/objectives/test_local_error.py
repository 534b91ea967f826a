"""GITS's objective: untransported errors, and the factor on the tail of a path."""

import itertools
from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.objectives.local_error import LocalError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from tests.objectives.teachers import exact_denoiser, teacher_statistics

PROCESS = Process.edm(100, 0.01, 50.0)
DENOISER, M = exact_denoiser(PROCESS, [0.5, 0.1]), 8


@pytest.fixture(scope="module")
def coarse() -> dict[str, Any]:
    return teacher_statistics(DENOISER, [0.5, 0.1], M, 12)


@pytest.mark.parametrize("tail", [1.0, 1.15, 2.0])
def test_dp_finds_the_best_of_all_paths(tail: float, coarse: dict[str, Any]) -> None:
    objective, times = LocalError(tail), coarse["teacher_trajectories"].times
    for K, found in Dp()(objective, coarse, DENOISER, [1, 2, 3, 5]).items():
        paths = [[0, *inner, M] for inner in itertools.combinations(range(1, M), K - 1)]
        values = [objective.value(coarse, Schedule(times[path], PROCESS)) for path in paths]
        assert objective.value(coarse, found) == pytest.approx(min(values), rel=1e-12)


def test_an_error_is_the_distance_of_one_step_from_the_teachers_state(coarse: dict[str, Any]) -> None:
    """(σ_s/σ_t) z_t + (1 − σ_s/σ_t) D_t against z_s, from the states; every step up multiplies what lies below."""
    teacher = coarse["teacher_trajectories"]
    z, sigma = teacher.z.double(), teacher.noise_levels

    def length(s: int, t: int) -> float:
        ratio = sigma[s] / sigma[t]
        step = ratio * z[t] + (1 - ratio) * teacher.D[t - 1].double()
        return float((step - z[s]).flatten(1).norm(dim=1).mean())

    expected = 1.15**2 * length(0, 3) + 1.15 * length(3, 4) + length(4, M)
    value = LocalError().value(coarse, Schedule(teacher.times[[0, 3, 4, M]], PROCESS))
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("tail", [0, -1.0, float("inf"), float("nan"), True])
def test_other_factors_are_refused(tail: Any) -> None:
    with pytest.raises(UserError, match="must be positive and finite"):
        LocalError(tail)
