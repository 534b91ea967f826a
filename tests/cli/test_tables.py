"""`experiment=digits_league` at tiny size to the table that it ends with, and the tables over what it left."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.discovery import named
from fewstep.report.overviews.base import Measured
from fewstep.report.papers import paper_table
from fewstep.report.papers.line import Method
from fewstep.report.papers.network import Network
from fewstep.report.papers.paper_table import NOT_RUN, PaperTable
from fewstep.report.papers.published import Block, Published, PublishedSetUp
from fewstep.report.runs import measured_runs
from fewstep.results import Result

OPTIMIZERS = ("even", "quadratic", "elbo_dp")
SMALL = ("steps=[2,4]", "evaluation.sample_seeds=[0,1]", f"schedule_optimizer={','.join(OPTIMIZERS)}")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, tiny: list[str], fewstep: Callable) -> Any:
    """What the sweep printed, and its outputs."""
    outputs = tmp_path_factory.mktemp("outputs")
    words = [word for word in tiny if not word.startswith(("schedule_optimizer", "finetune", "steps"))]
    done = fewstep("experiment=digits_league", *SMALL, *words, f"outputs={outputs}")
    assert done.code in (0, None), done.err
    return done.out, outputs


@pytest.fixture(scope="module")
def outputs(outcome: Any) -> Path:
    path: Path = outcome[1]
    return path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(outputs: Path) -> list[Result]:
    return [row for run in measured_runs(outputs) for row in run.rows]


def test_the_sweep_ends_with_the_league_of_all_schedule_optimizers(outcome: Any) -> None:
    printed, outputs = outcome
    folder = outputs / "report" / "league-digits_league"
    assert {path.name for path in folder.iterdir()} == {"league.md", "league.csv", "league.tex", "league.png"}
    assert (folder / "league.md").read_text(encoding="utf-8") in printed
    found = lines(folder / "league.csv")
    headings = list(dict.fromkeys(line["table"] for line in found))
    title = "digits_league: digits, cosine process"
    contests = ("bits/dim (optimal)", "fid_digits, ddim", "fid_digits, ancestral (optimal)")
    assert headings == [title, *(f"{title}: {contest}" for contest in contests)]
    in_conf = {line["schedule optimizer"] for line in found if line["table"] == title}
    assert in_conf >= {*OPTIMIZERS, "karras", "discretization_gradient"}
    not_run = {line["schedule optimizer"] for line in found if line["seconds"] == NOT_RUN}
    assert not_run == in_conf - {*OPTIMIZERS}
    for line in found:
        if line["table"].endswith(": fid_digits, ddim"):
            values = [
                row.value
                for row in measured(outputs)
                if (row.metric, row.solver, row.steps) == ("fid_digits", "ddim", 4)
                and row.schedule_optimizer == line["schedule optimizer"]
            ]
            assert float(line["K = 4"]) == pytest.approx(sum(values) / 2, abs=0.006)


def test_runs_on_digits_enter_no_paper(outputs: Path, fewstep: Callable) -> None:
    for name, overview in named("report.overviews").items():
        if issubclass(overview, PaperTable):
            content = overview()(Measured(measured_runs(outputs), []))
            tables = [table for heading in content.headings for table in heading.tables]
            here = [row for table in tables for row in table.rows if row[1].text != "published"]
            assert here
            assert all(any(cell.text == NOT_RUN for cell in row) for row in here), name


def test_a_table_of_these_runs_has_their_numbers(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same machinery, told that a paper is of this very network."""

    class OfDigits(PaperTable):
        name, title, metric = "of_digits", "", "bits_per_dim"
        methods = {"stride": Method("even"), "DP": Method("elbo_dp")}  # noqa: RUF012
        networks = {  # noqa: RUF012
            "digits": Network(
                "digits", {"name": "cosine", "T": 40, "smallest_noise_level": 0.0625}, "simple", ("optimal",), ""
            )
        }

    block = Block(PublishedSetUp(judged_on=8), [2, 4, 40], {"stride": [3.0, 2.0, 1.0], "DP": [2.5, 1.5, None]})
    monkeypatch.setattr(paper_table, "published", lambda _: Published("", [], {"digits": block}))
    content = OfDigits()(Measured(measured_runs(outputs), []))
    (table,) = (table for heading in content.headings for table in heading.tables)
    rows = measured(outputs)
    for row, optimizer in (("stride", "even"), ("DP", "elbo_dp")):
        _, here = (line for line in table.rows if line[0].text == row)
        for K, cell in zip((2, 4, 40), here[2:5], strict=True):
            name = "full" if K == 40 else optimizer
            found = [r for r in rows if (r.metric, r.schedule_optimizer, r.steps) == ("bits_per_dim", name, K)]
            ((number, error),) = {(r.value, r.standard_error) for r in found}
            assert (cell.text, cell.error) == (f"{number:.3f}", f"{error:.3f}") or (row, K) == ("DP", 40)
        trained = "trained here for 4 iterations of 16 images"
        searched = "statistics of 8 training images; "  # which the optimal variance is fitted to
        assert here[-1].text == f"digits_league; {trained}; {searched}on cpu"


def test_a_table_reads_and_runs_nothing(tmp_path: Path, fewstep: Callable, written: Callable) -> None:
    """On a newcomer's outputs, with the default experiment, whose network is not trained for it."""
    done = fewstep("stage=report", "report.table=watson_fid", f"outputs={tmp_path}")
    assert done.code in (0, None), done.err
    assert "| even DDPM | published | 51.04 | 28.83 |" in done.out
    assert "fewstep experiment=watson_cifar10_simple model.path=… dataset.path=…" in done.out
    assert written(tmp_path) == [f"report/watson_fid/watson_fid.{suffix}" for suffix in ("csv", "md", "tex")]
