"""Fine-tuning as a phase that alternates: it selects by the loss that it trains, and a run judges the rounds."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.modules.loggers import NoLogging
from fewstep.modules.training import ValidationError
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.results import read_results
from fewstep.run import read_record
from fewstep.schedule import Schedule
from fewstep.stages.finetune import Finetuning, finetune
from fewstep.stages.rounds import PhaseFiles, judge_rounds
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
CHOSEN = [0, 3, 7, T]
TRAINER = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False)


class FewDigits(Digits):
    """Digits with small splits."""

    def images(self, split: str) -> Tensor:
        return super().images(split)[: 64 if split == "train" else 20]


@pytest.fixture
def weights(tmp_path: Path, save_small_model: Callable[..., Path]) -> Path:
    return save_small_model(tmp_path / "weights", PROCESS)


@pytest.fixture
def schedule(tmp_path: Path) -> Path:
    Schedule.on_grid(CHOSEN, PROCESS).save(tmp_path / "schedule.json")
    return tmp_path / "schedule.json"


def test_what_is_selected_by_is_the_objective_on_validation(
    weights: Path, schedule: Path, tmp_path: Path, measure: Callable[..., DenoisingError]
) -> None:
    """Up to a factor common to all weights: errors before tuning and after have the ratio of the values."""
    objective = MseReweighted()
    measured = measure(FewDigits().images("train")[:8], load_model(weights))
    finetune(
        tmp_path / "run",
        {},
        Finetuning(steps=3, iterations=12, batch_size=16, warmup=1, learning_rate=0.01, validate_every=4),
        schedule,
        objective,
        lambda: {KIND: measured},
        weights,
        FewDigits(),
        TRAINER,
        NoLogging(),
        0,
        {"schedule_optimizer": "mse_reweighted_dp", "steps": 3},
    )
    rows = read_results(tmp_path / "run" / "results.csv")
    chosen = rows[rows.metric == "validation_error_on_schedule"].set_index("finetuned").value
    values = [value_of_validation(objective, folder, schedule) for folder in (weights, tmp_path / "run")]
    assert values[1] < 0.98 * values[0]
    assert chosen[True] / chosen[False] == pytest.approx(values[1] / values[0], rel=1e-5)
    uniform = ValidationError(FewDigits().images("validation"), PROCESS.grid[CHOSEN[1:]], 0)
    with torch.inference_mode():
        evenly = [
            uniform.mean(load_model(folder), torch.device("cpu"), 0) for folder in (weights, tmp_path / "run")
        ]
    assert evenly[1] / evenly[0] != pytest.approx(values[1] / values[0], rel=1e-3)


def value_of_validation(objective: MseReweighted, weights: Path, schedule: Path) -> float:
    """Σ (t_i − t_{i−1}) E‖x_0 − x̂_0‖², on the noise that validation takes."""
    x0 = FewDigits().images("validation").float()
    noise = Noise(0, range(len(x0)), x0.shape[1:])(0).float()
    denoiser, total = load_model(weights).eval(), 0.0
    times = Schedule.load(schedule).times
    with torch.inference_mode():
        for s, t in pairwise(times):
            x_hat = denoiser(PROCESS.add_noise(x0, t, noise), t).x0
            total += (t - s).item() * (x0 - x_hat).square().flatten(1).sum(1).mean().item()
    return total


# What judges the rounds.


@pytest.fixture
def made(
    tmp_path: Path, save_small_model: Callable[..., Path], measure: Callable[..., DenoisingError]
) -> list[PhaseFiles]:
    """Two rounds of models that have nothing to do with each other."""
    phases = []
    for number in (1, 2):
        path = tmp_path / f"schedule_{number}.json"
        Schedule.on_grid([0, 2 + number, 8, T], PROCESS).save(path)
        for phase, seed in (("search", 4 - number), ("finetune", 3 - number)):
            weights = save_small_model(tmp_path / f"weights_{seed}", PROCESS, seed)
            statistics = tmp_path / f"{number}_{phase}.safetensors"
            measure(FewDigits().images("validation"), load_model(weights), split="validation").save(statistics)
            phases.append(PhaseFiles(number, phase, weights, path, {KIND: statistics}))
    return phases


def test_a_run_judges_the_rounds(made: list[PhaseFiles], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objective, folder = ElboObjective("optimal"), tmp_path / "run"
    labels = {"schedule_optimizer": "elbo_dp_rounds3", "steps": 3}
    judge_rounds(folder, {}, objective, made, 3, 0, labels)
    rows = read_results(folder / "results.csv").set_index("metric")
    expected = [
        objective.image_values({KIND: DenoisingError.load(one.statistics[KIND])}, Schedule.load(one.schedule))
        for one in made
    ]
    for one, values in zip(made, expected, strict=True):
        row = rows.loc[f"loss_after_round{one.round:02d}_{one.phase}"]
        assert row.value == values.mean().item()
    losses = [expected[0].mean(), expected[1].mean(), expected[3].mean()]
    kept = losses.index(min(losses))
    assert read_record(folder)["facts"] == {"kept": kept, "rounds": 2}
    assert rows.loc["kept_round"].value == kept
    rises = sum((b - a).mean() > (b - a).std() / 20**0.5 for a, b in pairwise(expected))
    assert rises > 0
    warnings = [one for one in caplog.records if one.levelname == "WARNING" and "the loss rose by" in one.message]
    assert len(warnings) == rises


# What is refused.


@pytest.mark.parametrize(
    "rounds, sentence",
    [
        (0, "finetune.rounds is 0; allowed are one or several numbers of at least 1"),
        (-2, "finetune.rounds is -2; allowed are"),
        ([3, 0], r"finetune.rounds is \[3, 0\]; allowed are one or several numbers of at least 1"),
        ([], r"finetune.rounds is \[\]; allowed are one or several numbers of at least 1"),
        ([1, 3, 3], r"finetune.rounds is \[1, 3, 3\]; each may be given once"),
    ],
)
def test_rounds_that_are_no_numbers_of_rounds(rounds: int | list[int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Finetuning(rounds=rounds)


def test_rounds_need_training_that_lowers_what_the_search_lowers() -> None:
    with pytest.raises(UserError, match=r"with finetune.times=uniform training does not lower what the search"):
        Finetuning(rounds=[1, 2], times="uniform")
    assert Finetuning(rounds=1, times="uniform").all_rounds == (1,)


def test_numbers_of_rounds_are_in_order() -> None:
    assert Finetuning(rounds=[3, 1]).all_rounds == (1, 3)
