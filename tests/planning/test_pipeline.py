"""A plan says before a run what the records of the run say after it, stage by stage."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.__main__ import build
from fewstep.artefacts.precision import IMAGES
from fewstep.calls import ABOUT, AT_MOST, EXACTLY
from fewstep.config import Config
from fewstep.modules.training import ValidationError
from fewstep.pipeline import Pipeline
from fewstep.planning.ledger import Ledger
from fewstep.planning.networks import Networks
from fewstep.planning.pipeline import PlannedPipeline
from fewstep.run import read_record

EVERYTHING = [
    "schedule_optimizer=[even,elbo_dp,discretization_gradient,transport_dp]",
    "statistics.teacher.trajectories=5",
    "schedule_optimizer.discretization_gradient.search.iterations=3",
    "solver=[ddim,heun,ancestral]",
    "evaluation.sample_steps={ddim:[4]}",
    "evaluation.compared=20",
    "evaluation.fine_steps=7",
    "finetune=restricted",
    "finetune.schedule_optimizer=elbo_dp",
    "finetune.steps=4",
    "finetune.rounds=[1,2]",
    "finetune.iterations=6",
    "finetune.batch_size=16",
    "finetune.validate_every=2",
    "finetune.patience=9",
]
AUTO = [
    "process.T=60",
    "steps=[2]",
    "schedule_optimizer=[even,elbo_dp]",
    "solver=ddim",
    "statistics.timesteps=auto",
]


def planned(config: Config) -> Ledger:
    pipeline = PlannedPipeline(config, build, Networks(build))
    pipeline.run()
    return pipeline.ledger


def recorded(outputs: Path) -> Counter[str]:
    """Stage → the network calls that its runs have recorded."""
    calls: Counter[str] = Counter()
    for path in outputs.glob("*/*/*/run.json"):
        record, stage = read_record(path.parent), path.parents[1].name.replace("_", " ")
        split = f", {record['config']['split']}" if stage == "statistics" else ""
        calls[f"{stage}{split}"] += record["network_calls"]
    return calls


def expected(ledger: Ledger, *marks: str) -> Counter[str]:
    """Stage → the calls of those of its runs whose counts are so sure."""
    calls: Counter[str] = Counter()
    for line in ledger.lines.values():
        if line.recorded and line.calls.mark in marks:
            calls[line.stage] += line.calls.total
    return calls


class Ran:
    """A configuration that was planned, run, and planned again."""

    def __init__(self, config: Config, outputs: Path) -> None:
        self.outputs = outputs
        self.before = planned(config)
        assert not list(outputs.iterdir())
        self.validated: Counter[str] = Counter()
        per_image, stage = ValidationError.per_image, "pretrain"

        def counted(error: ValidationError, *arguments: Any) -> torch.Tensor:
            self.validated[stage] += len(error.images) * len(error.times)
            return per_image(error, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ValidationError, "per_image", counted)
            pipeline = Pipeline(config, build)
            assert pipeline.shared.weights.is_dir()
            stage = "finetune"
            pipeline.run()
        self.after = planned(config)


@pytest.fixture(scope="module")
def ran(configured: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    outputs = tmp_path_factory.mktemp("outputs")
    return Ran(configured(outputs, *EVERYTHING), outputs)


@pytest.fixture(scope="module")
def ran_auto(configured: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    outputs = tmp_path_factory.mktemp("auto")
    return Ran(configured(outputs, *AUTO), outputs)


def test_counts_that_are_certain_are_what_the_runs_record(ran: Ran) -> None:
    found, sure = recorded(ran.outputs), expected(ran.before, EXACTLY)
    for stage in ("pretrain", "fine steps", "evaluate"):
        assert sure[stage] == found[stage] > 0
    # Of the untuned model all 12 timesteps, and for the rounds its own 4; those of tuned ones may be its files.
    # And 5 trajectories over all of the grid.
    teacher = 5 * 12
    assert sure["statistics, train"] == (12 + 4) * 6 + teacher
    assert sure["statistics, test"] == 12 * 10 + teacher


def test_counts_that_are_bounds_are_not_exceeded(ran: Ran) -> None:
    found = recorded(ran.outputs)
    sure, most = expected(ran.before, EXACTLY), expected(ran.before, EXACTLY, AT_MOST)
    for stage in found.keys() - {"features"}:
        assert sure[stage] <= found[stage] <= most[stage]
    assert found["finetune"] >= most["finetune"] / 2
    assert not expected(ran.before, ABOUT)


def test_validations_during_training_are_counted_too_but_apart(ran: Ran) -> None:
    lines = {
        line.stage: line.calls.forward
        for line in ran.before.lines.values()
        if line.stage == "pretrain, validation"
    }
    assert lines["pretrain, validation"] == ran.validated["pretrain"]
    tuning = sum(line.calls.forward for line in ran.before.lines.values() if line.stage == "finetune, validation")
    assert tuning / 2 < ran.validated["finetune"] <= tuning


@pytest.mark.parametrize("which", ["ran", "ran_auto"])
def test_what_is_complete_is_told_with_what_it_took(which: str, request: pytest.FixtureRequest) -> None:
    made: Ran = request.getfixturevalue(which)
    assert all(line.complete for line in made.after.lines.values())
    assert not any(line.complete for line in made.before.lines.values())
    assert made.after.total(left=True).runs == 0
    found = recorded(made.outputs)
    assert {stage: n for stage, n in found.items() if n} == +expected(made.after, EXACTLY)
    on_disk = {path.parent for path in made.outputs.glob("*/*/*/run.json") if "features" not in path.parts}
    assert {line.folder for line in made.after.lines.values()} == on_disk


def test_timesteps_that_a_search_finds_out_about_are_an_estimate_and_what_judges_a_bound(ran_auto: Ran) -> None:
    found, before = recorded(ran_auto.outputs), ran_auto.before
    (searched,) = (line for line in before.lines.values() if line.calls.mark == ABOUT)
    assert searched.stage == "statistics, train"
    assert searched.calls.total == 40 * 6
    measured = max(line.calls.total for line in ran_auto.after.lines.values() if line.stage == searched.stage)
    assert 0 < measured < 60 * 6
    assert found["statistics, test"] <= expected(before, EXACTLY, AT_MOST)["statistics, test"]
    assert found["evaluate"] == expected(before, EXACTLY)["evaluate"]


def test_statistics_that_tell_what_the_precision_changes_are_counted(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    config = configured(tmp_path, "schedule_optimizer=even", "solver=ddim", "trainer.precision=bf16-mixed")

    def few() -> list[tuple[int, bool]]:
        """Calls of statistics of so many images as the comparison takes, and whether they are complete."""
        lines = [line for line in planned(config).lines.values() if line.stage == "statistics, train"]
        return [(line.calls.total, line.complete) for line in lines if line.calls.total % IMAGES == 0]

    before = few()
    made = Pipeline(config, build).evaluations.make_precision_files(tmp_path / config.name / "statistics")
    assert made is not None
    counts = [read_record(path.parent)["network_calls"] for path in (made.lower, made.full)]
    assert before == [(count, False) for count in counts]
    assert few() == [(count, True) for count in counts]


def test_a_grid_that_auto_measures_whole_is_counted_exactly(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    ledger = planned(configured(tmp_path, "stage=search", "statistics.timesteps=auto"))
    assert expected(ledger, EXACTLY)["statistics, train"] == 12 * 6


def test_no_optimal_variance_is_fitted_where_none_is_judged(
    configured: Callable[..., Config], tmp_path: Path
) -> None:
    """The clipped error is then of no use on the training images; of test images it is kept of each."""
    words = ["schedule_optimizer=even", "solver=ddim", "evaluation.decoders=[additive,improved_diffusion]"]
    kinds = {}
    for variance in ("learned", "optimal"):
        given = configured(tmp_path, "model=unet_digits_learned", *words, f"evaluation.variances=[{variance}]")
        lines = planned(given).lines.values()
        kept = {line.folder.name.partition("-planned")[0]: line.kept for line in lines}
        kinds[variance] = {kind for kind in kept if "denoising_error" in kind}
        assert kept["clipped_denoising_error-test"] > kept["denoising_error-test"] > 0
        assert kept["denoising_error-train"] == 0
    assert kinds["optimal"] - kinds["learned"] == {"clipped_denoising_error-train"}
