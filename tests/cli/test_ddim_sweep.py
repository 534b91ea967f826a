"""`experiment=digits_ddim`, one part of it at tiny size: from training to the page that it ends with."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fewstep.results import read_results

SMALL = (
    "experiment=digits_ddim",
    "part=ddim_edm_1",
    "schedule_optimizer=[even,tangent,karras,elbo_dp,mse_reweighted_dp]",
    "finetune.schedule_optimizer=elbo_dp",
    "finetune.steps=4",
    "finetune.rounds=1",
    "finetune.iterations=4",
    "finetune.batch_size=16",
    "finetune.validate_every=4",
    "evaluation.sample_seeds=[0,1]",
    "evaluation.compared=9",
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, tiny: list[str], fewstep: Callable) -> Path:
    """The experiment's folder."""
    outputs = tmp_path_factory.mktemp("outputs")
    words = [word for word in tiny if not word.startswith(("schedule_optimizer", "finetune", "steps"))]
    more = ["evaluation.sample_steps.ddim=[4,6]", "evaluation.fine_steps=20"]
    outcome = fewstep(*SMALL, "steps=[4,6]", *words, *more, f"outputs={outputs}")
    assert outcome.code in (0, None), outcome.err
    assert "The study: " in outcome.out
    return outputs / "digits_ddim"


@pytest.fixture(scope="module")
def results(swept: Path) -> pd.DataFrame:
    (report,) = (swept / "report").iterdir()
    return read_results(report / "results.csv")


def test_every_schedule_is_compared_with_one_set_of_fine_step_outputs(swept: Path, results: pd.DataFrame) -> None:
    assert len([*(swept / "fine_steps").iterdir()]) == 1
    found = results[results.metric == "distance_pixels"]
    assert len(found) == 5 * 2 + 1
    assert found.finetuned.sum() == 1
    assert {*found.sample_seed} == {0}
    assert {*found.n_images} == {9}
    assert {*found.train_seed} == {1}


def test_every_schedule_has_a_value_under_every_objective(results: pd.DataFrame) -> None:
    found = results[results.metric.str.startswith("objective_")]
    assert {*found.metric} == {"objective_elbo", "objective_mse_reweighted"}
    assert len(found) == 2 * (5 * 2 + 1)
    assert {*found.split} == {"test"}


def test_the_page_has_the_tables(swept: Path) -> None:
    page = (swept / "results.md").read_text(encoding="utf-8")
    for words in (
        "Parts run: ddim_edm_1.",
        "## Process: edm",
        "**Minus tangent**",
        "| elbo_dp (tuned) |",
        "Distance in features (",
    ):
        assert words in page


def test_too_few_fine_steps_are_told_before_any_work(tmp_path: Path, tiny: list[str], fewstep: Callable) -> None:
    outcome = fewstep(*tiny, "evaluation.compared=9", "evaluation.fine_steps=3", f"outputs={tmp_path}")
    assert outcome.sentence.startswith("evaluation.fine_steps is 3; allowed are 4, the largest number of steps")


def test_a_page_that_does_not_exist_is_told_before_any_work(tmp_path: Path, fewstep: Callable) -> None:
    page = "hydra.callbacks.study.page=fewstep.report.ddim.no_such"
    outcome = fewstep("experiment=digits_ddim", page, f"outputs={tmp_path}")
    assert outcome.code not in (0, None)
    assert "no_such" in outcome.err
    assert not (tmp_path / "digits_ddim" / "pretrain").exists()
