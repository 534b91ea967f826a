"""Search and fine-tuning in turn, through the pipeline on digits: whose weights are searched, what is kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from fewstep.__main__ import CONF, _quieten, build
from fewstep.config import Config
from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.modules.training import TrainingModule
from fewstep.objectives.base import Objective
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.pipeline import Pipeline
from fewstep.pipeline.tuning import Tuned
from fewstep.results import read_results
from fewstep.run import read_record
from fewstep.schedule import Schedule
from fewstep.search.dp import Dp
from fewstep.statistics.denoising_error import KIND, DenoisingError, DenoisingErrorEstimator
from fewstep.weights import load_model

T, K, IMAGES = 30, 4, 8
ITERATIONS = 24
TINY = [
    "stage=finetune",
    "finetune=restricted",
    f"process.T={T}",
    f"steps=[2,{K}]",
    "schedule_optimizer=[even,elbo_dp,discretization_dp]",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    f"statistics.images={IMAGES}",
    "pretrain.iterations=40",
    "pretrain.batch_size=16",
    "pretrain.validate_every=20",
    "finetune.schedule_optimizer=[elbo_dp,discretization_dp]",
    f"finetune.steps={K}",
    f"finetune.iterations={ITERATIONS}",
    "finetune.warmup=1",
    "finetune.batch_size=16",
    "finetune.learning_rate=5e-3",
    "finetune.validate_every=4",
    "evaluation.images=20",
    "evaluation.samples=20",
    "evaluation.pictured=2",
    "evaluation.sample_seeds=[0]",
    "evaluation.variances=[optimal]",
    f"evaluation.sample_steps={{ddim:[{K}]}}",
    "solver=ddim",
    "features.epochs=1",
]
OBJECTIVES: dict[str, Objective] = {"elbo_dp": ElboObjective("optimal"), "discretization_dp": Discretization()}


def pipeline(outputs: Path, *words: str) -> Pipeline:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", [*TINY, f"outputs={outputs}", *words])
    plain: Any = OmegaConf.to_container(composed, resolve=True)
    _quieten()
    return Pipeline(Config(**plain), build)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def made(outputs: Path) -> Pipeline:
    return pipeline(outputs, "finetune.rounds=[1,2]")


@pytest.fixture(scope="module")
def tuned(made: Pipeline) -> dict[tuple[str, int], Tuned]:
    return {(one.schedule_optimizer, one.rounds): one for one in made.tunings.all}


def folders(outputs: Path, stage: str, pattern: str) -> list[Path]:
    return sorted((outputs / "digits" / stage).glob(pattern))


def folder(outputs: Path, stage: str, pattern: str) -> Path:
    (found,) = folders(outputs, stage, pattern)
    return found


def rows(tuned: Tuned) -> dict[str, pd.Series]:
    return {row.metric: row for _, row in read_results(tuned.folder / "results.csv").iterrows()}


def statistics(
    weights: Path, split: str, indices: list[int], fitted: DenoisingError | None = None
) -> DenoisingError:
    """Measured here, on the first images of a split for searches, or all of it to judge."""
    images = Digits().images(split)[: None if split == "validation" else IMAGES]
    denoiser = load_model(weights)
    estimator = DenoisingErrorEstimator(
        images,
        None,
        split=split,
        levels=17,
        indices=indices,
        seed=0,
        batch_size=64,
        fitted=fitted,
    )
    with torch.inference_mode():
        return estimator.collect(
            denoiser.process, [estimator.measure(denoiser, row) for row in range(len(indices))]
        )


def chain(outputs: Path, name: str) -> list[tuple[str, Path, Path]]:
    """(label, weights, schedule) of every phase, as the folders are named."""
    weights = folder(outputs, "pretrain", "*")
    found = []
    for number in (1, 2):
        label = f"{name}-k{K:03d}-round{number}of2"
        search = label if number > 1 else f"{name}-optimal" if name == "elbo_dp" else f"{name}-seed"
        schedule = folder(outputs, "search", f"{search}*") / "schedules" / f"{name}_k{K:03d}.json"
        found.append((f"round{number:02d}_search", weights, schedule))
        weights = folder(outputs, "finetune", f"{label}-seed*")
        found.append((f"round{number:02d}_finetune", weights, schedule))
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_round_searches_the_weights_of_the_round_before(
    name: str, tuned: dict[tuple[str, int], Tuned], outputs: Path
) -> None:
    phases = chain(outputs, name)
    for _, weights, schedule in phases[::2]:
        measured = statistics(weights, "train", list(range(1, T + 1)))
        expected = Dp()(OBJECTIVES[name], {KIND: measured}, load_model(weights), [K])[K]
        assert Schedule.load(schedule).indices == expected.indices
    assert len({weights for _, weights, _ in phases}) == 3


def test_tuned_weights_can_have_another_schedule(tuned: dict[tuple[str, int], Tuned], outputs: Path) -> None:
    """Lest the fact above hold for whatever weights."""
    assert len({tuple(Schedule.load(path).indices) for _, _, path in chain(outputs, "elbo_dp")}) == 2


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_of_every_phase_is_the_objective_on_all_validation_images(
    name: str, tuned: dict[tuple[str, int], Tuned], outputs: Path
) -> None:
    found, before = rows(tuned[name, 2]), None
    for label, weights, path in chain(outputs, name):
        indices = Schedule.load(path).indices[1:]
        measured = statistics(weights, "validation", indices, statistics(weights, "train", indices))
        values = OBJECTIVES[name].image_values({KIND: measured}, Schedule.load(path))
        row = found[f"loss_after_{label}"]
        assert (row.value, row.standard_error) == approximately(values)
        assert (row.schedule_optimizer, row.steps, row.split) == (f"{name}_rounds2", K, "validation")
        assert row.n_images == len(Digits().images("validation"))
        if before is None:
            assert f"loss_change_{label}" not in found
        else:
            row = found[f"loss_change_{label}"]
            assert (row.value, row.standard_error) == approximately(values - before)
        before = values


def approximately(values: Tensor) -> tuple[float, float]:
    error = values.std().item() / len(values) ** 0.5
    return pytest.approx(values.mean().item(), rel=1e-5, abs=1e-6), pytest.approx(error, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_round_of_least_validation_loss_is_kept(
    name: str, tuned: dict[tuple[str, int], Tuned], outputs: Path
) -> None:
    found, phases = rows(tuned[name, 2]), chain(outputs, name)
    losses = [found["loss_after_round01_search"].value]
    losses += [found[f"loss_after_round{number:02d}_finetune"].value for number in (1, 2)]
    kept = losses.index(min(losses))
    assert found["kept_round"].value == kept
    _, weights, schedule = phases[max(0, 2 * kept - 1)]
    assert (tuned[name, 2].weights, tuned[name, 2].schedule) == (weights, schedule)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rounds_share_the_iterations_of_a_model_that_is_tuned_once(
    name: str, tuned: dict[tuple[str, int], Tuned], outputs: Path
) -> None:
    once, phases = tuned[name, 1], chain(outputs, name)
    assert once.schedule == phases[0][2]
    assert read_record(once.weights)["facts"]["iterations"] == ITERATIONS
    for _, weights, _ in phases[1::2]:
        assert read_record(weights)["facts"]["iterations"] == ITERATIONS // 2


def test_a_model_tuned_once_is_the_one_of_a_run_without_rounds(
    tuned: dict[tuple[str, int], Tuned], outputs: Path
) -> None:
    alone = pipeline(outputs, "finetune.schedule_optimizer=elbo_dp").tunings.all
    assert alone == [tuned["elbo_dp", 1]]


def test_what_rounds_cost_is_what_their_runs_cost(tuned: dict[tuple[str, int], Tuned], outputs: Path) -> None:
    """Training, and two measurements of e(t): of all timesteps to search, of K to fit and to judge."""
    for name in OBJECTIVES:
        one = tuned[name, 2]
        calls = sum(read_record(run)["network_calls"] for run in one.runs)
        validation = len(Digits().images("validation"))
        trained = sum(
            read_record(weights)["facts"]["iterations"] * 16 for _, weights, _ in chain(outputs, name)[1::2]
        )
        judged = {(weights, tuple(Schedule.load(path).indices)) for _, weights, path in chain(outputs, name)}
        assert calls == trained + T * IMAGES + len(judged) * K * (IMAGES + validation)
        assert len(set(one.runs)) == len(one.runs)


# What is done again where a run is cut short, and what is not.


def test_rounds_that_were_cut_short_end_with_the_bits_of_those_that_were_not(
    tuned: dict[tuple[str, int], Tuned],
    outputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the fine-tuning of round 2."""
    shutil.copytree(outputs / "digits" / "pretrain", tmp_path / "digits" / "pretrain")
    words = ("finetune.schedule_optimizer=elbo_dp", "finetune.rounds=2")
    step = TrainingModule.training_step

    class CutShort(Exception):
        pass

    def cut(module: TrainingModule, *arguments: Any) -> Tensor:
        if "-round2of2-" in module.trainer.default_root_dir and module.global_step == 6:
            raise CutShort
        return step(module, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", cut)
        with pytest.raises(CutShort):
            assert pipeline(tmp_path, *words).tunings.all
    (resumed,) = pipeline(tmp_path, *words).tunings.all
    unbroken = tuned["elbo_dp", 2]
    assert (resumed.folder / "results.csv").read_bytes() == (unbroken.folder / "results.csv").read_bytes()
    weights = "weights.safetensors"
    assert (resumed.weights / weights).read_bytes() == (unbroken.weights / weights).read_bytes()
    assert resumed.schedule.read_bytes() == unbroken.schedule.read_bytes()


def test_a_round_that_improves_nothing_is_the_last(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Iterations so long that they spoil the network: the untuned model is kept."""
    words = ("finetune.schedule_optimizer=elbo_dp", "finetune.rounds=2", "finetune.learning_rate=1")
    with caplog.at_level("INFO"):
        (spoilt,) = pipeline(outputs, *words).tunings.all
    found = rows(spoilt)
    assert (found["rounds_made"].value, found["kept_round"].value) == (1, 0)
    assert found["loss_change_round01_finetune"].value == 0
    assert spoilt.weights == folder(outputs, "pretrain", "*")
    assert spoilt.schedule == spoilt.untuned_schedule
    assert "round 1 improved nothing" in caplog.text


# How an alternated model is judged.


@pytest.fixture(scope="module")
def evaluated(outputs: Path, tuned: dict[tuple[str, int], Tuned]) -> pd.DataFrame:
    """All rows of the evaluations of the models of two rounds, tuned once, and not at all."""
    evaluations = pipeline(outputs, "stage=evaluate", "finetune.rounds=[1,2]").evaluations
    return pd.concat([read_results(path / "results.csv") for path in evaluations.all])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_alternated_models_have_rows_of_their_own(name: str, evaluated: pd.DataFrame) -> None:
    bits = evaluated[evaluated.metric == "bits_per_dim"]
    at = bits[(bits.steps == K) & bits.schedule_optimizer.str.startswith(name, na=False)]
    found = {(row.schedule_optimizer, row.finetuned) for _, row in at.iterrows()}
    assert found == {(name, False), (name, True), (f"{name}_rounds2", True)}
    assert len(at) == 3
    distances = evaluated[(evaluated.metric == "fid_digits") & (evaluated.steps == K)]
    assert (f"{name}_rounds2", True) in {(r.schedule_optimizer, r.finetuned) for _, r in distances.iterrows()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_their_change_in_bits_is_from_the_untuned_model_on_its_own_schedule(
    name: str, evaluated: pd.DataFrame
) -> None:
    def value(metric: str, optimizer: str, finetuned: bool) -> float:
        chosen = evaluated[(evaluated.metric == metric) & (evaluated.schedule_optimizer == optimizer)]
        (row,) = chosen[(chosen.steps == K) & (chosen.finetuned == finetuned)].to_dict("records")
        return float(row["value"])

    for row in (name, f"{name}_rounds2"):
        change = value("bits_per_dim", row, True) - value("bits_per_dim", name, False)
        assert value("bits_per_dim_change", row, True) == pytest.approx(change, abs=1e-9)


# What is refused, before any work is done.


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ["finetune.iterations=2", "finetune.rounds=3"],
            "finetune.iterations is 2, but must be at least 1 for each of the 3 rounds",
        ),
        (["finetune.rounds=0"], "finetune.rounds is 0; allowed are one or several numbers of at least 1"),
        (
            ["finetune.rounds=2", "finetune.schedule_optimizer=even"],
            "finetune.rounds is 2, but the schedule of even does not depend on the weights",
        ),
        (
            ["finetune.rounds=[1,2]", "finetune.times=uniform"],
            "with finetune.times=uniform training does not lower what the search lowers",
        ),
    ],
)
def test_rounds_that_cannot_be_made(words: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence.replace("[", r"\[")):
        pipeline(tmp_path, *words)
    assert not list(tmp_path.iterdir())


class WithoutError(Discretization):
    """An objective that does not look at the network's error."""

    time_weights = Objective.time_weights


def test_an_objective_that_does_not_look_at_the_network_is_alternated_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: Callable[..., Any] = lambda searches, name, variance: WithoutError()  # noqa: E731
    monkeypatch.setattr("fewstep.pipeline.searching.Searches.objective", searches)
    with pytest.raises(UserError, match="the schedule of discretization_dp does not depend on the weights"):
        pipeline(tmp_path, "finetune.rounds=2", "finetune.schedule_optimizer=discretization_dp")
