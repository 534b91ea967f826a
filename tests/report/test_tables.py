"""Tables: what is bold, what several seeds print, what stands in the headings."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from fewstep.errors import UserError
from fewstep.report.estimates import Estimate
from fewstep.report.printing import count, listing, number, signed, span, with_error
from fewstep.report.rows import fid_panels, likelihood_panels, read_rows
from fewstep.report.tables import cost_table, fid_table, likelihood_table
from fewstep.results import Result

MakeRows = Callable[..., list[Result]]
ReadBack = Callable[[list[Result]], pd.DataFrame]


def test_bold_is_the_lowest_of_each_steps_and_moves_with_it(synthetic_rows: MakeRows) -> None:
    def bold(rows: list[Result]) -> set[tuple[str, str]]:
        panel = likelihood_panels(rows)[0]
        table = likelihood_table(panel)
        return {
            (row[0].text, head)
            for row in table.rows
            for head, cell in zip(table.header, row, strict=False)
            if cell.bold
        }

    rows = synthetic_rows()
    assert bold(rows) == {("elbo_dp", f"K = {k}") for k in (4, 8, 16, 32)}
    lower = [
        replace(r, value=1.0) if (r.schedule_optimizer, r.steps, r.variance) == ("karras", 8, "optimal") else r
        for r in rows
    ]
    assert bold(lower) == {("karras", "K = 8")} | {("elbo_dp", f"K = {k}") for k in (4, 16, 32)}


def test_rows_that_print_alike_are_bold_alike() -> None:
    rows = [
        Result(metric="bits_per_dim", variance="beta", schedule_optimizer=name, steps=4, value=value)
        for name, value in (("even", 2.00012), ("karras", 2.00034), ("tangent", 2.0011))
    ]
    (panel,) = likelihood_panels(rows)
    assert [row[1].bold for row in likelihood_table(panel).rows] == [True, True, False]


def test_distances_have_no_bold(synthetic_rows: MakeRows) -> None:
    for panel in fid_panels(synthetic_rows(sample_seeds=6), "fid_digits"):
        assert not any(cell.bold for row in fid_table(panel, None, 2).rows for cell in row)


def test_many_seeds_print_their_range(synthetic_rows: MakeRows) -> None:
    rows = synthetic_rows(sample_seeds=6)
    panel = fid_panels(rows, "fid_digits")[0]
    cell = fid_table(panel, None, 2).rows[0][1]
    values = [r.value for r in rows if (r.schedule_optimizer, r.steps, r.solver) == ("even", 4, "ddim")]
    assert len(values) == 6
    assert cell.text == f"{sum(values) / 6:.2f}"
    assert cell.detail == f"{min(values):.2f} to {max(values):.2f} over 6 runs, each ± 0.05"


def test_training_seeds_average_and_add_their_spread() -> None:
    rows = [
        Result(
            metric="bits_per_dim",
            variance="optimal",
            schedule_optimizer="even",
            steps=4,
            train_seed=seed,
            value=value,
            standard_error=0.03,
        )
        for seed, value in ((0, 2.0), (1, 2.1))
    ]
    (panel,) = likelihood_panels(rows)
    cell = likelihood_table(panel).rows[0][1]
    # √(0.03² + 0.05²/1 ): two runs 0.05 from their mean have variance 0.005 and 0.0025 for the mean.
    assert (cell.text, cell.error) == ("2.050", f"{(0.03**2 + 0.0025) ** 0.5:.3f}")
    assert "mean of 2 training seeds" in likelihood_table(panel).caption


def test_calls_that_differ_from_steps_stand_in_the_heading() -> None:
    row = Result(metric="fid_x", solver="heun", schedule_optimizer="even", steps=8, nfe=15, value=1.5)
    (panel,) = fid_panels([row, replace(row, steps=4, nfe=4)], "fid_x")
    assert fid_table(panel, None, 2).header == ["schedule optimizer", "K = 4", "K = 8 (15 calls)"]


def test_variances_of_searched_schedules_are_told_apart_within_one_solver() -> None:
    row = Result(metric="fid_x", solver="ddim", schedule_optimizer="even", steps=8, value=1.5)
    searched = [replace(row, schedule_optimizer="elbo_dp", variance=v) for v in ("beta", "optimal")]
    (panel,) = fid_panels([row, *searched], "fid_x")
    names = [cells[0].text for cells in fid_table(panel, None, 2).rows]
    assert names == ["even", "elbo_dp (beta)", "elbo_dp (optimal)"]
    assert len(fid_panels(searched, "fid_x")) == 2


def test_no_cost_rows_no_cost_table(synthetic_rows: MakeRows) -> None:
    assert cost_table([row for row in synthetic_rows() if row.metric == "bits_per_dim"]) is None


def test_two_values_of_one_number_are_refused() -> None:
    row = Result(metric="bits_per_dim", variance="beta", schedule_optimizer="even", steps=4, value=2.0)
    with pytest.raises(UserError, match="two rows of bits_per_dim for schedule_optimizer=even, steps=4"):
        likelihood_panels([row, replace(row, value=2.1)])


def test_a_row_repeated_exactly_is_one_measurement(read_back: ReadBack) -> None:
    row = Result(metric="fid_x", solver="ddim", schedule_optimizer="even", steps=4, value=2.0)
    (panel,) = fid_panels(read_rows(read_back([row, row])), "fid_x")
    assert len(panel.seeds) == 1


def test_only_held_out_images_judge_a_likelihood(synthetic_rows: MakeRows) -> None:
    rows = [replace(row, split="train") for row in synthetic_rows() if row.metric == "bits_per_dim"]
    assert likelihood_panels(rows) == []


def test_numbers_print_as_people_write_them() -> None:
    assert number(-1234.5678, 2) == "−1,234.57"
    assert [signed(v, 2) for v in (0.126, -0.126, 0.001, -0.001)] == ["+0.13", "−0.13", "0.00", "0.00"]
    assert with_error(1.0, 0.0456, 2) == "1.00 ± 0.05"
    assert with_error(1.0, None, 2) == "1.00"
    assert span([1.231, 1.234], 2) == "1.23"
    assert span([1.3, 1.2], 1) == "1.2 to 1.3"
    assert count([360]) == "360"
    assert listing(["a", "b", "c"]) == "a, b and c"


def test_standard_error_unknown_of_one_run_is_unknown_of_the_mean() -> None:
    estimate = Estimate(values={(0, 0): 1.0, (1, 0): 2.0}, errors={(0, 0): 0.1, (1, 0): None})
    assert estimate.standard_error is None
