"""The terminal's table: the file's numbers in at most 110 columns."""

from collections.abc import Callable

import pandas as pd
import pytest

from fewstep.report.terminal import rendered, terminal_table
from fewstep.results import Result

MakeRows = Callable[..., list[Result]]
ReadBack = Callable[[list[Result]], pd.DataFrame]


def cells(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).replace(" ± ", "±").split()


def test_rows_hold_optimal_likelihoods_and_ddim_means(synthetic_rows: MakeRows, read_back: ReadBack) -> None:
    results = read_back(synthetic_rows())
    text = rendered(terminal_table(results))
    for name in ("even", "quadratic", "log_snr", "karras", "tangent", "elbo_dp"):
        own = results[(results.schedule_optimizer == name) & (results.finetuned == False)]  # noqa: E712
        bits = own[(own.metric == "bits_per_dim") & (own.variance == "optimal")].sort_values("steps")
        means = own[(own.metric == "fid_digits") & (own.solver == "ddim")].groupby("steps").value.mean()
        expected = [f"{value:.3f}±0.021" for value in bits.value] + [f"{value:.2f}" for value in means]
        assert cells(text, name) == expected
    tuned = [cell for cell in cells(text, "elbo_dp (tuned)") if cell != "–"]
    assert len(tuned) == 2
    assert "all 1000 steps: 1.901 ± 0.021" in text
    assert "360 real images: 1.31" in text


@pytest.mark.parametrize("steps", [(8,), (4, 8, 16, 32), (4, 8, 10, 12, 16, 32)])
def test_fits_in_110_columns_and_no_number_is_cut(
    synthetic_rows: MakeRows, read_back: ReadBack, steps: tuple[int, ...]
) -> None:
    text = rendered(terminal_table(read_back(synthetic_rows(steps=steps))))
    assert max(map(len, text.splitlines())) <= 110
    assert len(cells(text, "even")) == len(steps) + 3
    assert "…" not in text
    assert ("standard errors up to 0.021" in text) == (len(steps) > 4)


def test_of_too_many_steps_every_other_one_stands(synthetic_rows: MakeRows, read_back: ReadBack) -> None:
    steps = (1, 2, 3, 4, 6, 8, 10, 12, 16, 32)
    text = rendered(terminal_table(read_back(synthetic_rows(steps=steps))))
    assert max(map(len, text.splitlines())) <= 110
    heads = text.splitlines()[1].removeprefix("optimizer").replace("K = ", "").split()
    assert [int(k) for k in heads] == [2, 4, 8, 12, 32, 4, 16]
    assert "Not every K fits" in text


def test_other_variance_where_there_is_no_optimal(synthetic_rows: MakeRows, read_back: ReadBack) -> None:
    rows = [row for row in synthetic_rows() if row.metric == "bits_per_dim" and row.variance == "beta"]
    text = rendered(terminal_table(read_back(rows)))
    assert "beta variance" in text
    assert "fid" not in text
