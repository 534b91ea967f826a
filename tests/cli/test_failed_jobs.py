"""A job that fails does not end a sweep; the last words say which and why; the same command does the rest."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.pipeline import Pipeline
from fewstep.search.dp import Dp

MORE = "; the same command runs what is missing."


@pytest.fixture(scope="module")
def small(tiny: list[str]) -> list[str]:
    words = [word for word in tiny if not word.startswith(("finetune", "schedule_optimizer", "steps"))]
    return ["-m", "stage=search", "finetune=none", *words]


def finished(outputs: Path) -> dict[str, int]:
    """Every complete run and when it was completed."""
    return {str(path.parent): path.stat().st_mtime_ns for path in outputs.rglob("run.json")}


def test_the_others_go_on(tmp_path: Path, fewstep: Callable[..., Any], small: list[str]) -> None:
    command = (*small, "schedule_optimizer=even", "steps=[2],[99],[4],[98]", f"outputs={tmp_path}")
    outcome = fewstep(*command)
    assert outcome.code == 1
    told = outcome.err.splitlines()[-3:]
    assert told[0] == f"fewstep: 2 of 4 jobs failed{MORE}"
    assert told[1] == "  steps=[99]: Each number of steps must be a whole number from 1 to 40; given was 99."
    assert told[2] == "  steps=[98]: Each number of steps must be a whole number from 1 to 40; given was 98."
    assert "Traceback" not in outcome.err
    assert len(list(tmp_path.glob("digits/search/even-*/run.json"))) == 2
    assert [path.name for path in (tmp_path / "digits" / "jobs").glob(".sweep*")] == []
    before = finished(tmp_path)
    assert fewstep(*command).code == 1
    assert finished(tmp_path) == before


def test_a_fault_of_the_program_too_and_then_what_is_missing(
    tmp_path: Path, fewstep: Callable[..., Any], small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    command = (*small, "schedule_optimizer=elbo_dp,even", "steps=[2]", f"outputs={tmp_path}")
    monkeypatch.setattr(Dp, "__call__", broken)
    outcome = fewstep(*command)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2:] == [
        f"fewstep: 1 of 2 jobs failed{MORE}",
        "  schedule_optimizer=elbo_dp: RuntimeError: a bug",
    ]
    assert "in broken" in outcome.err
    logs = [path.read_text() for path in (tmp_path / "digits" / "jobs").glob("*/fewstep.log")]
    assert ["in broken" in log for log in logs].count(True) == 1
    monkeypatch.undo()
    before = finished(tmp_path)
    assert fewstep(*command).code == 0
    after = finished(tmp_path)
    assert before.items() <= after.items()
    (missing,) = after.keys() - before.keys()
    assert "/search/elbo_dp-" in missing


def test_an_interruption_ends_the_sweep(
    tmp_path: Path, fewstep: Callable[..., Any], small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Dp, "__call__", interrupted)
    outcome = fewstep(*small, "schedule_optimizer=elbo_dp,even", "steps=[2]", f"outputs={tmp_path}")
    assert outcome.err.splitlines()[-1] == "fewstep: interrupted; the same command goes on from here."
    assert not list(tmp_path.glob("digits/search/even-*"))


def test_a_plan_of_a_sweep_ends_with_the_first_error(fewstep: Callable[..., Any], small: list[str]) -> None:
    outcome = fewstep("plan", *small, "schedule_optimizer=even", "steps=[2],[99],[98]")
    assert outcome.sentence.endswith("given was 99.")


def write_page(page: Path, reports: Mapping[str, Path]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(" ".join(f"{part}={folder}" for part, folder in reports.items()))


def test_the_page_of_a_study_is_made_of_the_parts_that_are_complete(
    tmp_path: Path, fewstep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(pipeline: Pipeline) -> str:
        if pipeline.config.seed == 1:
            raise UserError("The disk is full.")
        pipeline.reported = Path(f"report{pipeline.config.seed}")
        return "reported"

    monkeypatch.setattr(Pipeline, "run", run)
    page = f"hydra.callbacks.study.page={__name__}.write_page"
    outcome = fewstep(
        "experiment=ablation_seeds", "hydra.sweeper.params.seed='0,1,2'", page, f"outputs={tmp_path}"
    )
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2:] == [f"fewstep: 1 of 3 jobs failed{MORE}", "  seed=1: The disk is full."]
    assert (tmp_path / "ablation_seeds" / "results.md").read_text() == "seed_0=report0 seed_2=report2"
