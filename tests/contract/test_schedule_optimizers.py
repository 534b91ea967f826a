"""Every schedule optimizer finds schedules on every process, and refuses the same numbers of steps."""

from typing import Any

import pytest

from fewstep import UserError
from fewstep.calls import AT_MOST, EXACTLY
from fewstep.search.base import search_calls

T = 24  # of the grids here


def test_every_schedule_optimizer_finds_schedules_on_every_process(tiny: Any, optimizer: Any) -> None:
    steps = [1, 2, 4, T]
    statistics = optimizer.statistics(tiny)
    before = tiny.denoiser.evaluations
    found = optimizer.search(optimizer.objective, statistics, tiny.denoiser, steps)
    _check_calls(tiny, optimizer, steps, tiny.denoiser.evaluations - before)
    assert [*found] == steps
    for K, schedule in found.items():
        assert schedule.steps == K
        assert schedule.process == tiny.process
        assert schedule.times[0] == 0
        assert schedule.times[-1] == 1
        assert (schedule.times.diff() > 0).all()
        if optimizer.objective is not None:
            assert abs(optimizer.objective.value(statistics, schedule, tiny.denoiser)) < float("inf")
    if all(schedule.times[1] in tiny.process.grid for schedule in found.values()):
        assert found[T].indices == list(range(T + 1))


def _check_calls(tiny: Any, optimizer: Any, steps: list[int], made: int) -> None:
    """Every search says what it costs: exactly, or a bound that is not idle."""
    images = dict.fromkeys(optimizer.statistics(tiny), len(tiny.images))
    calls = search_calls(optimizer.search, optimizer.objective, tiny.process, images, steps)
    if calls.mark == EXACTLY:
        assert made == calls.total
    else:
        assert calls.mark == AT_MOST
        assert calls.total / 4 < made <= calls.total


@pytest.mark.parametrize("steps", [[], [0], [-1], [T + 1], [2, 2], [2.0], [True]])
def test_every_schedule_optimizer_refuses_the_same_numbers_of_steps(
    steps: list[Any], without_network: Any, optimizer: Any
) -> None:
    statistics = optimizer.statistics(without_network)
    with pytest.raises(UserError):
        optimizer.search(optimizer.objective, statistics, without_network.denoiser, steps)
