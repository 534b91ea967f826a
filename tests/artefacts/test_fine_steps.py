"""Fine-step outputs: DDIM's samples of the same noise, made once per model, seed, images and steps."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from fewstep.artefacts import fine_steps
from fewstep.artefacts.fine_steps import (
    FineSteps,
    check_fine_steps,
    fine_schedule,
    fine_step_outputs_of,
    load_fine_step_outputs,
)
from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.record import read_record
from fewstep.sampling import ROWS, sample
from fewstep.search.log_snr import LogSnr
from fewstep.solvers.ddim import Ddim
from fewstep.weights import load_model

PROCESS = Process.cosine(30, 1 / 16)
TRAINER = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, save_small_model: Callable[..., Path]) -> Path:
    return save_small_model(tmp_path_factory.mktemp("weights"), PROCESS)


def outputs(root: Path, weights: Path, steps: int = 6, samples: int = ROWS + 3, seed: int = 0) -> Path:
    return fine_step_outputs_of(root, weights, Digits(), FineSteps(steps, samples, seed), {}, TRAINER)


def test_they_are_ddims_samples_of_the_fine_schedule_bit_for_bit(weights: Path, tmp_path: Path) -> None:
    images = load_fine_step_outputs(outputs(tmp_path, weights))
    denoiser = load_model(weights)
    schedule = LogSnr(17)(None, {}, denoiser, [6])[6]
    alone = [sample(denoiser, Ddim(), schedule, [index], 0, (1, 8, 8)) for index in (0, 7, ROWS + 2)]
    assert images.shape == (ROWS + 3, 1, 8, 8)
    assert torch.equal(images[[0, 7, ROWS + 2]], torch.cat(alone))


def test_they_are_made_once_and_anew_for_another_seed_or_more_steps(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = outputs(tmp_path, weights, samples=4)
    assert read_record(path.parent)["network_calls"] == 6 * ROWS
    others = {outputs(tmp_path, weights, samples=4, seed=1), outputs(tmp_path, weights, 7, samples=4)}
    assert len({path, *others}) == 3
    monkeypatch.setattr(fine_steps, "load_model", None)
    assert outputs(tmp_path, weights, samples=4) == path


def test_what_is_damaged_is_refused(weights: Path, tmp_path: Path) -> None:
    path = outputs(tmp_path, weights, samples=4)
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(UserError, match=r"is not the one that the run in"):
        load_fine_step_outputs(path)


@pytest.mark.parametrize("steps", [5, 31])
def test_fewer_steps_than_are_judged_or_more_than_there_are_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=rf"evaluation.fine_steps is {steps}; allowed are 6, .* to 30,"):
        check_fine_steps(steps, 6, PROCESS)
    check_fine_steps(6, 6, PROCESS)
    check_fine_steps(30, 6, PROCESS)


def test_on_all_timesteps_the_schedule_is_the_grid() -> None:
    assert fine_schedule(PROCESS, 17, 30).indices == list(range(31))
