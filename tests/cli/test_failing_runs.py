"""Runs that fail at work: bad data, a loss that turns NaN, an interruption, a fault of the program itself."""

import re
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.modules.training import TrainingModule
from fewstep.pipeline import Pipeline


class Images:
    """A dataset whose images are a class's attribute, so that a test can spoil them."""

    name = "images"
    shape = (1, 8, 8)
    levels = 17
    made = torch.zeros(0)

    def images(self, split: str) -> torch.Tensor:
        return self.made

    def labels(self, split: str) -> torch.Tensor:
        return torch.zeros(len(self.made), dtype=torch.int64)


@pytest.mark.parametrize(
    "images, reason",
    [
        (torch.zeros(0, 1, 8, 8), "holds no images"),
        (torch.zeros(10, 8, 8), r"\[B, C, H, W\]"),
        (torch.zeros(10, 1, 4, 4), r"shape \[1, 4, 4\], not \[1, 8, 8\]"),
        (torch.full((10, 1, 8, 8), 16.0), r"\[-1, 1\]; their values run from 16 to 16"),
        (torch.full((10, 1, 8, 8), float("nan")), r"\[-1, 1\]"),
        (torch.full((10, 1, 8, 8), 0.03), "17 grey levels"),
        (torch.zeros(10, 1, 8, 8, dtype=torch.uint8), "float"),
    ],
    ids=["empty", "flat", "small", "not scaled", "nan", "off the levels", "integers"],
)
def test_a_dataset_that_cannot_be_used(
    images: torch.Tensor,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fewstep: Callable[..., Any],
    tiny: list[str],
    written: Callable[[Path], list[str]],
) -> None:
    module = types.ModuleType("spoilt")
    module.Images = Images  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spoilt", module)
    monkeypatch.setattr(Images, "made", images)
    sentence = fewstep(f"outputs={tmp_path}", "dataset._target_=spoilt.Images", *tiny).sentence
    assert re.search(reason, sentence)
    assert "images (train)" in sentence
    assert written(tmp_path) == []


def test_a_loss_that_turns_nan(tmp_path: Path, fewstep: Callable[..., Any], tiny: list[str]) -> None:
    outcome = fewstep("stage=pretrain", f"outputs={tmp_path}", *tiny, "pretrain.learning_rate=1e30")
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1
    assert last.startswith("fewstep: The training loss is ")
    assert "Lower the learning rate." in last
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("weights.safetensors"))
    assert not list(tmp_path.rglob("run.json"))


def test_an_interruption_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingModule, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        outcome = fewstep("stage=pretrain", f"outputs={tmp_path}", *tiny)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores further interruptions
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "fewstep: interrupted; the same command goes on from here."
    monkeypatch.undo()
    assert fewstep("stage=pretrain", f"outputs={tmp_path}", *tiny).code == 0


def test_the_number_of_threads_reaches_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.setattr(Pipeline, "run", lambda _: "")
    for threads in ("3", "null"):
        assert fewstep(f"outputs={tmp_path}", *tiny, f"threads={threads}").code == 0
    assert numbers == [3, 3]  # by the command, and by each of a job's processes


def test_an_error_of_the_program_itself_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TrainingModule, "training_step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        fewstep("stage=pretrain", f"outputs={tmp_path}", *tiny)
