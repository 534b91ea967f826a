"""Restricted fine-tuning trains where the schedule goes, by the objective's weights or alike."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.modules.training import TrainingBatches
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)
CHOSEN = [0, 3, 7, T]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The times of every batch."""
    batch, seen = TrainingBatches.batch, []

    def spied(batches: TrainingBatches, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
        made = batch(batches, iteration)
        seen.append(batches.times.draw(made[1]).t)
        return made

    monkeypatch.setattr(TrainingBatches, "batch", spied)
    return seen


def share(drawn: list[Tensor]) -> Tensor:
    """How often each chosen timestep was drawn; fails where another was."""
    indices = (torch.cat(drawn) * T).round().long()
    counts = torch.bincount(indices, minlength=T + 1)
    assert counts.sum() == counts[CHOSEN[1:]].sum()
    return counts[CHOSEN[1:]] / counts.sum()


@pytest.mark.parametrize("times", ["uniform", "objective"])
def test_a_fixed_rule_draws_the_chosen_timesteps_alike(
    times: str, tune: Callable[..., Path], drawn: list[Tensor]
) -> None:
    tune(objective=None, times=times, batch_size=30)
    assert share(drawn).tolist() == pytest.approx([1 / 3] * 3, abs=0.034)


def test_an_objective_draws_them_by_its_weights(
    tune: Callable[..., Path], drawn: list[Tensor], measured: DenoisingError, weights: Path
) -> None:
    objective = ElboObjective("beta")
    tune(objective=objective, times="objective", batch_size=50)
    slope = objective.time_weights({KIND: measured}, Schedule.on_grid(CHOSEN, PROCESS))
    expected = slope / load_model(weights).loss_weight(PROCESS.grid[CHOSEN[1:]])
    assert share(drawn).tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=0.021)
    assert expected.max() > 2 * expected.min()  # not uniform


def test_an_objective_may_be_told_to_draw_them_alike(tune: Callable[..., Path], drawn: list[Tensor]) -> None:
    tune(objective=ElboObjective("beta"), times="uniform", batch_size=30)
    assert share(drawn).tolist() == pytest.approx([1 / 3] * 3, abs=0.034)


def test_a_finished_run_is_skipped(tune: Callable[..., Path], drawn: list[Tensor]) -> None:
    folder = tune()
    before, batches = (folder / "weights.safetensors").stat().st_mtime_ns, len(drawn)
    tune()
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    assert len(drawn) == batches
