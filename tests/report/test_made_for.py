"""The table of schedules on other solvers than their own, from rows whose differences are known."""

from collections.abc import Sequence

import pytest

from fewstep.report.made_for import made_for, made_for_table
from fewstep.results import Result

MADE_FOR = {"a_ddim": "ddim", "b_ddim": "ddim", "a_heun": "heun"}
# Solver that samples → schedule optimizer → mean of the distance.
DISTANCES = {
    "ddim": {"even": 5.0, "a_ddim": 3.0, "b_ddim": 4.0, "a_heun": 4.5},
    "heun": {"even": 2.5, "a_ddim": 2.0, "b_ddim": 1.0, "a_heun": 1.5},
}


def rows(distances: dict[str, dict[str, float]] = DISTANCES, seeds: Sequence[int] = range(5)) -> list[Result]:
    of = {"dataset": "digits", "process": "cosine", "train_seed": 0, "finetuned": False, "steps": 4}
    nodes = [
        Result(**of, metric="node_log_snr", value=value, schedule_optimizer=name, solver=MADE_FOR.get(name))
        for name in ("even", *MADE_FOR)
        for value in (-4.0, 0.0, 2.0, 5.0)
    ]
    sampled = [
        Result(
            **of,
            metric="fid_digits",
            value=mean + 0.3 * seed,  # the seeds' own differences are the same in all rows
            schedule_optimizer=name,
            solver=solver,
            sample_seed=seed,
            nfe=4,
        )
        for solver, by_name in distances.items()
        for name, mean in by_name.items()
        for seed in seeds
    ]
    return [*nodes, *sampled]


def test_every_schedule_says_which_solver_it_was_made_for() -> None:
    assert made_for(rows()) == MADE_FOR


def test_the_best_of_another_solver_is_compared_with_the_best_of_ones_own() -> None:
    """With heun the best of ddim's own choice, a_ddim, is 0.5 worse than a_heun, though b_ddim would be better."""
    table = made_for_table(rows(), "fid_digits")
    assert table is not None
    assert table.header == ["samples with", "made for", "K = 4"]
    ddim, heun = table.rows
    assert [cell.text for cell in ddim[:2]] == ["ddim", "heun"]
    assert float(ddim[2].text) == pytest.approx(1.5)
    assert ddim[2].detail == "a_heun"
    assert [cell.text for cell in heun[:2]] == ["heun", "ddim"]
    assert float(heun[2].text) == pytest.approx(0.5)
    assert heun[2].detail == "a_ddim"
    assert float(heun[2].error) == pytest.approx(0, abs=1e-9)  # paired: nothing is left of the seeds


def test_without_two_solvers_there_is_nothing_to_tell() -> None:
    of_one = {"ddim": {name: mean for name, mean in DISTANCES["ddim"].items() if MADE_FOR.get(name) != "heun"}}
    kept = [row for row in rows(of_one) if row.schedule_optimizer != "a_heun"]
    assert made_for_table(kept, "fid_digits") is None
    assert made_for_table([row for row in rows() if row.metric != "node_log_snr"], "fid_digits") is None
