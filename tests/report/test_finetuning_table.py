"""Before and after fine-tuning: what a difference's error is of."""

from dataclasses import replace

import pytest

from fewstep.report.finetuning_table import finetuning_table
from fewstep.report.rows import likelihood_panels, validation_panels
from fewstep.results import Result

UNTUNED = Result(
    metric="bits_per_dim",
    variance="beta",
    schedule_optimizer="even",
    steps=4,
    value=2.5,
    standard_error=0.03,
    finetuned=False,
)
TUNED = replace(UNTUNED, value=2.0, standard_error=0.04, finetuned=True)
CHANGE = replace(TUNED, metric="bits_per_dim_change", value=-0.5, standard_error=0.002)


def difference(*rows: Result) -> tuple[str, str]:
    table = finetuning_table([*likelihood_panels(rows), *validation_panels(rows)], rows)
    assert table is not None
    cell = table.rows[0][-1]
    return cell.text, cell.error


def test_a_difference_measured_image_by_image_has_the_error_of_that() -> None:
    assert difference(UNTUNED, TUNED, CHANGE) == ("−0.500", "0.002")


def test_one_that_was_not_is_taken_as_of_independent_runs_and_marked() -> None:
    assert difference(UNTUNED, TUNED) == ("−0.500", "0.050*")


@pytest.mark.parametrize("column", [{"steps": 8}, {"schedule_optimizer": "karras"}, {"variance": "optimal"}])
def test_another_schedules_change_is_not_its_own(column: dict) -> None:
    assert difference(UNTUNED, TUNED, replace(CHANGE, **column)) == ("−0.500", "0.050*")


def test_errors_of_the_network_are_paired_too() -> None:
    rows = [replace(row, metric="validation_error_on_schedule", variance=None) for row in (UNTUNED, TUNED)]
    change = replace(CHANGE, metric="validation_change_on_schedule", variance=None)
    assert difference(*rows, change) == ("−0.500", "0.002")


def test_fine_tuned_without_an_untuned_row_has_no_difference() -> None:
    table = finetuning_table(likelihood_panels([TUNED]), [TUNED])
    assert table is not None
    assert [cell.text for cell in table.rows[0][2:]] == ["–", "2.000", "–"]
