"""Costs are sums over finished runs of what their records say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.errors import UserError
from fewstep.judging.cost import Spent, cost_rows, schedules_cost_rows, tuning_cost_rows
from fewstep.record import read_record, write_record
from fewstep.run import Run


@pytest.fixture
def finished(tmp_path: Path) -> Callable[[str, int, float], Path]:
    """A finished run with a number of network calls and of seconds."""

    def make(name: str, network_calls: int, seconds: float) -> Path:
        with Run(tmp_path / name, {}) as run:
            run.finish(network_calls=network_calls, device="cpu", seed=0)
        write_record(tmp_path / name, read_record(tmp_path / name) | {"seconds": seconds})
        return tmp_path / name

    return make


def test_runs_of_one_stage_and_optimizer_are_added(finished: Callable[[str, int, float], Path]) -> None:
    runs = [
        Spent("pretrain", None, finished("a", 100, 2.5)),
        Spent("search", "elbo_dp", finished("b", 0, 0.25)),
        Spent("search", "elbo_dp", finished("c", 0, 0.5)),
        Spent("search", "even", finished("d", 0, 0.125)),
        Spent("evaluate", None, finished("e", 7, 1.0)),
        Spent("evaluate", "even", finished("f", 70, 3.0)),
    ]
    rows = cost_rows(runs, {"dataset": "digits", "train_seed": 4, "schedule_optimizer": "overridden"})
    assert {(row.metric, row.schedule_optimizer): row.value for row in rows} == {
        ("seconds_pretrain", None): 2.5,
        ("network_calls_pretrain", None): 100,
        ("seconds_search", "elbo_dp"): 0.75,
        ("network_calls_search", "elbo_dp"): 0,
        ("seconds_search", "even"): 0.125,
        ("network_calls_search", "even"): 0,
        ("seconds_evaluate", None): 1.0,
        ("network_calls_evaluate", None): 7,
        ("seconds_evaluate", "even"): 3.0,
        ("network_calls_evaluate", "even"): 70,
    }
    assert {(row.dataset, row.train_seed) for row in rows} == {("digits", 4)}


def test_a_run_that_is_not_finished_has_no_cost(tmp_path: Path) -> None:
    with Run(tmp_path / "run", {}):
        pass
    with pytest.raises(UserError, match="started but is not complete"):
        cost_rows([Spent("search", None, tmp_path / "run")], {})


def test_schedules_are_charged_with_every_run_behind_them(
    finished: Callable[[str, int, float], Path],
) -> None:
    statistics, search = finished("statistics", 128_000, 30.0), finished("search", 0, 0.5)
    gradient, even = finished("gradient", 4_000, 20.0), finished("even", 0, 0.25)
    behind = {"elbo_dp": [statistics, search, statistics], "gradient": [statistics, gradient], "even": [even]}
    rows = schedules_cost_rows(behind, {"train_seed": 4})
    assert {(row.metric, row.schedule_optimizer): row.value for row in rows} == {
        ("schedules_seconds", "elbo_dp"): 30.5,
        ("schedules_network_calls", "elbo_dp"): 128_000,
        ("schedules_seconds", "gradient"): 50.0,
        ("schedules_network_calls", "gradient"): 132_000,
        ("schedules_seconds", "even"): 0.25,
        ("schedules_network_calls", "even"): 0,
    }


def test_tuned_models_are_told_apart_by_their_steps(finished: Callable[[str, int, float], Path]) -> None:
    first = finished("first", 40, 1.0)
    tuned = [("elbo_dp", K, [first, finished(f"k{K}", 100 * K - 40, 1.5 * K - 1.0)]) for K in (4, 8)]
    rows = tuning_cost_rows(tuned, {"train_seed": 4})
    assert {(row.metric, row.steps): row.value for row in rows if row.finetuned} == {
        ("tuning_seconds", 4): 6.0,
        ("tuning_network_calls", 4): 400,
        ("tuning_seconds", 8): 12.0,
        ("tuning_network_calls", 8): 800,
    }
