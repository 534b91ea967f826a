"""What a difference rests on: sampling seeds are the unit, and both networks must agree in sign."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.errors import UserError
from fewstep.report.ddim import write_ddim
from fewstep.report.ddim.networks import Networks, group
from fewstep.results import Result, write_results

Rows = list[Result]
MINE = {"metric": "fid_digits", "schedule_optimizer": "discretization_dp", "process": "linear", "finetuned": False}


def linear(rows: Rows) -> Networks:
    return group(rows)[0]


def test_rows_are_grouped_by_process_and_shared_ones_belong_to_each(networks: list[Networks]) -> None:
    assert [one.process for one in networks] == ["linear", "cosine"]
    for one in networks:
        assert one.seeds == [0, 1]
        assert one.panel is not None
        assert one.panel.reference is not None
        assert one.single("feature_accuracy").mean == 0.98


def test_a_difference_averages_networks_first_and_shows_each(rows: Rows) -> None:
    against = linear(rows).against("discretization_dp", "even", 4)
    assert against is not None
    assert against.difference.seeds == 5
    assert against.difference.mean == pytest.approx(-1.0, abs=1e-3)
    assert {seed: one.mean for seed, one in against.by_seed.items()} == {
        0: pytest.approx(-1.0, abs=1e-3),
        1: pytest.approx(-1.0, abs=1e-3),
    }
    assert against.says == "better"


def test_networks_that_disagree_in_sign_leave_it_unclear(rows: Rows, changed: Callable[..., Rows]) -> None:
    against = linear(changed(rows, 1.5, train_seed=1, **MINE)).against("discretization_dp", "even", 4)
    assert against is not None
    assert against.difference.is_claim
    assert against.by_seed[1].mean > 0 > against.difference.mean
    assert against.says == "unclear"


def test_few_seeds_are_unclear(rows: Rows) -> None:
    few = [row for row in rows if row.sample_seed in (None, 0, 1)]
    against = linear(few).against("discretization_dp", "even", 4)
    assert against is not None
    assert (against.difference.seeds, against.says) == (2, "unclear")


def test_the_page_of_files_that_are_there_and_the_sentence_of_one_that_is_not(rows: Rows, tmp_path: Path) -> None:
    for process in ("linear", "cosine"):
        (tmp_path / process).mkdir()
        kept = [row for row in rows if row.process in (process, None)]
        write_results(tmp_path / process / "results.csv", kept)
    page = tmp_path / "page.md"
    write_ddim(page, {name: tmp_path / name for name in ("linear", "cosine")})
    text = page.read_text(encoding="utf-8")
    assert "Parts run: linear, cosine." in text
    assert "## Process: cosine" in text
    with pytest.raises(UserError, match="There is no results file"):
        write_ddim(page, {"edm": tmp_path / "edm"})
