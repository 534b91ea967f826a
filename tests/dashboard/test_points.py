"""Rows of results as curves: the same numbers, by names that a regular expression picks."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.dashboard.points import curves, name_of, numbers, table
from fewstep.results import COLUMNS, Result
from tests.dashboard.rows import OF, judged, rounds


def test_points_are_the_means_over_sampling_seeds_over_steps_or_network_calls() -> None:
    lines = {curve.name: curve for curve in curves(judged("elbo_dp", tuned=True))}
    assert lines.keys() == {"bits_per_dim/optimal/additive/elbo_dp_tuned", "fid_digits/heun/elbo_dp_tuned"}
    likelihood, distance = lines.values()
    assert likelihood.axis == "steps"
    name, error = likelihood.name, f"standard_error/{likelihood.name}"
    assert likelihood.points == [
        {"steps": 4, "nfe": 4, name: 2.0, error: 0.25},
        {"steps": 8, "nfe": 8, name: 1.0, error: 0.25},
    ]
    assert distance.axis == "nfe"
    assert [(point["steps"], point["nfe"], point[distance.name]) for point in distance.points] == [
        (4, 7, 4.5),
        (8, 15, 8.5),
    ]


def test_a_name_is_made_of_words_whatever_a_metric_is_called() -> None:
    row = Result(**OF, metric="objective_elbo[variance=optimal, p=0.5]", value=1.0, schedule_optimizer="even")
    assert name_of(row) == "objective_elbo_variance_optimal_p_0_5/even"
    assert re.fullmatch(r"[\w-]+(/[\w-]+)*", name_of(row))


def test_a_search_ends_half_a_round_and_training_the_other_half() -> None:
    (loss, *others) = curves(rounds())[::-1]
    assert loss.axis == "rounds"
    points = [(point["rounds"], point[loss.name]) for point in loss.points]
    assert points == [(0.5, 9.0), (1.0, 7.0), (1.5, 6.0), (2.0, 5.0)]
    assert {curve.name for curve in others} == {"rounds_made/elbo_dp_rounds2", "kept_round/elbo_dp_rounds2"}


def test_what_is_of_no_schedule_is_a_number_and_no_curve() -> None:
    floor = Result(**OF, metric="fid_digits", value=0.5, schedule_optimizer="data")
    assert numbers([floor, *judged("even")]) == {"fid_digits/data": 0.5}
    assert curves([floor]) == []


def test_every_panel_of_the_documentation_finds_its_curves_and_their_axis() -> None:
    page = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text(encoding="utf-8")
    panels = re.findall(r"^\|[^|]*\| `(\w+)` \| `(\^.*?)` \| \w+ \|$", page, re.MULTILINE)
    of = {**OF, "value": 1.0, "schedule_optimizer": "elbo_dp", "steps": 4}
    rows = [
        Result(**of, metric="bits_per_dim", variance="optimal", decoder="additive", nfe=4),
        Result(**of, metric="fid_digits", solver="ddim", nfe=4),
        Result(**of, metric="objective_elbo", variance="optimal", decoder="additive"),
        *(replace(row, schedule_optimizer="discretization_dp_rounds2") for row in rounds()),
    ]
    axes = {curve.name: curve.axis for curve in curves(rows)}
    axes |= {"finetune/elbo_dp-k004/validation/on": "iterations", "standard_error/fid_digits/ddim/even": "nfe"}
    assert len(panels) == 6
    for axis, pattern in panels:
        found = [name for name in axes if re.match(pattern.replace("\\|", "|"), name)]
        assert [axes[name] for name in found] == [axis]


@pytest.mark.parametrize("row", [*judged("even"), *rounds()])
def test_the_table_has_all_that_a_row_says(row: Result) -> None:
    ((*cells,),) = table([row])
    assert Result(**dict(zip(COLUMNS, cells, strict=True))) == row  # type: ignore[arg-type]
