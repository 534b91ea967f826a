"""`fewstep plan` through the console entry: a table on the terminal, nothing on the disk, errors in a sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PRETRAINED = 4 * 16  # images that the tiny network is trained on


def rows(printed: str) -> dict[str, list[str]]:
    """First cell → the others, of the first table."""
    table = printed.partition("statistics.timesteps")[0]
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if "   " in line]
    return {cells[0]: cells[1:] for cells in lines}


@pytest.fixture
def plan(fewstep: Callable, tiny: list[str], tmp_path: Path) -> Callable[..., str]:
    """(words, …) → what a plan of the search of a tiny network printed; it must not write."""

    def make(*words: str) -> str:
        given = [word for word in tiny if not word.startswith(("finetune", "schedule_optimizer"))]
        outputs = tmp_path / "outputs"
        outcome = fewstep(
            "plan", *words, *given, "stage=search", "finetune=none", "solver=ddim", f"outputs={outputs}"
        )
        assert outcome.code in (0, None), outcome.err
        assert not outputs.exists()
        return outcome.out

    return make


def test_a_plan_lists_what_the_stages_take(plan: Callable[..., str]) -> None:
    printed = plan("schedule_optimizer=[even,elbo_dp]", "statistics.timesteps=auto")
    found = rows(printed)
    forward, backward, flops, memory, time, complete = found["pretrain"]
    assert (forward, backward, complete) == ("–", str(PRETRAINED), "0 of 1")
    assert re.fullmatch(r"[\d.]+ [kMGT]", flops)
    assert re.fullmatch(r"[\d.]+ [KMG]iB", memory)
    assert re.fullmatch(r"≈ [\d.]+ (s|min|h)", time)
    assert found["statistics, train"][0] == str(40 * 8)
    assert found["in all"][1] == str(PRETRAINED)
    assert "auto (as configured)" in printed


def test_a_sweep_is_added_up_and_what_its_jobs_share_is_counted_once(plan: Callable[..., str]) -> None:
    printed = plan("-m", "schedule_optimizer=even,elbo_dp", "seed=0,1")
    found = rows(printed)
    assert found["pretrain"][1] == str(2 * PRETRAINED)
    assert found["pretrain"][-1] == "0 of 2"
    assert found["search"][-1] == "0 of 4"
    assert "4 jobs of 8 runs in all, 2 of which several jobs share." in printed


def test_an_experiment_that_is_a_sweep_by_itself_is_planned_whole(plan: Callable[..., str]) -> None:
    printed = plan("experiment=ablation_seeds", "hydra.sweeper.params.seed='3,4'")
    assert rows(printed)["pretrain"][1:2] + rows(printed)["pretrain"][-1:] == [str(2 * PRETRAINED), "0 of 2"]
    assert "2 jobs of " in printed


def test_help_says_what_a_plan_is(fewstep: Callable) -> None:
    outcome = fewstep("plan", "--help")
    assert outcome.code == 0
    assert outcome.out.startswith("fewstep plan [setting=value …]\n")
    assert "network calls, FLOPs, memory" in outcome.out


def test_what_a_run_would_refuse_a_plan_refuses_in_one_sentence(fewstep: Callable, tmp_path: Path) -> None:
    outcome = fewstep("plan", "steps=[0]", f"outputs={tmp_path}")
    assert outcome.sentence == "Each number of steps must be a whole number from 1 to 1000; given was 0."
    outcome = fewstep("plan", "solvr=ddim", f"outputs={tmp_path}")
    assert outcome.sentence.startswith("There is no setting 'solvr'; did you mean 'solver'?")
    assert not list(tmp_path.iterdir())
