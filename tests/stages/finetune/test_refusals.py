"""What restricted fine-tuning refuses, and what its settings may be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.stages.finetune import Finetuning

T = 12
PROCESS = Process.cosine(T, 1 / 16)
CHOSEN = [0, 3, 7, T]


def test_a_schedule_of_another_process_is_refused(tune: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    Schedule.on_grid(CHOSEN, Process.cosine(T)).save(path)
    with pytest.raises(UserError, match=r"made for Process\.cosine\(T=12, smallest_noise_level=None\)"):
        tune(schedule=path, name="other")
    assert not (tmp_path / "other" / "weights.safetensors").exists()


def test_a_loss_that_turns_nan_leaves_no_weights(tune: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The training loss is (nan|inf) at iteration"):
        tune(learning_rate=1e35)
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"times": "often"}, "'often'; allowed are objective, uniform"),
        ({"steps": 0}, "finetune.steps is 0; allowed are one or several numbers of at least 1"),
        ({"steps": [4, 0]}, r"finetune.steps is \[4, 0\]; allowed are one or several numbers of at least 1"),
        ({"steps": []}, r"finetune.steps is \[\]; allowed are one or several numbers of at least 1"),
        ({"steps": [4, 8, 4]}, r"finetune.steps is \[4, 8, 4\]; each may be given once"),
        ({"schedule_optimizer": ["even", "even"]}, r"\['even', 'even'\]; each may be given once"),
        ({"patience": 0}, "finetune.patience is 0, but must be at least 1"),
        ({"iterations": 0}, "finetune.iterations is 0, but must be at least 1"),
        ({"batch_size": -1}, "finetune.batch_size is -1, but must be at least 1"),
        ({"validate_every": 0}, "finetune.validate_every is 0, but must be at least 1"),
        ({"warmup": -1}, "finetune.warmup is -1, but must be at least 0"),
        ({"learning_rate": 0.0}, "finetune.learning_rate is 0.0, but must be positive and finite"),
        ({"learning_rate": float("inf")}, "finetune.learning_rate is inf"),
        ({"ema_decay": 1.0}, r"finetune.ema_decay is 1.0, but must lie in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Finetuning(**settings)


@pytest.mark.parametrize(
    "given, steps, names",
    [
        ({}, (8,), ()),
        ({"steps": 4, "schedule_optimizer": "even"}, (4,), ("even",)),
        ({"steps": [4, 16], "schedule_optimizer": ["even", "elbo_dp"]}, (4, 16), ("even", "elbo_dp")),
    ],
)
def test_one_schedule_or_several(given: dict[str, Any], steps: tuple[int, ...], names: tuple[str, ...]) -> None:
    assert (Finetuning(**given).all_steps, Finetuning(**given).schedule_optimizers) == (steps, names)
