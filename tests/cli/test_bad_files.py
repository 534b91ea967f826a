"""A file that was damaged or exchanged between two commands is named, and so is what is wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.files import sha256
from fewstep.process import Process
from fewstep.schedule import Schedule


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, fewstep: Callable[..., Any], tiny: list[str]) -> Path:
    """Outputs of a finished search."""
    outputs = tmp_path_factory.mktemp("searched")
    assert fewstep("stage=search", f"outputs={outputs}", *tiny).code == 0
    return outputs


@pytest.fixture
def outputs(searched: Path, tmp_path: Path) -> Path:
    """A copy of them, to be damaged."""
    shutil.copytree(searched, tmp_path / "outputs")
    return tmp_path / "outputs"


@pytest.fixture
def evaluated(fewstep: Callable[..., Any], tiny: list[str]) -> Callable[[Path], str]:
    """(outputs) → the last line of an evaluation that fails; lines before it say how far it went."""

    def last_line(outputs: Path) -> str:
        outcome = fewstep("stage=evaluate", f"outputs={outputs}", *tiny)
        assert outcome.code == 1
        assert outcome.out == ""
        *progress, last = outcome.err.splitlines()
        assert not any(line.startswith(("fewstep: ", "Traceback", "Error")) for line in progress)
        assert last.startswith("fewstep: ")
        assert not list(outputs.glob("digits/evaluate/*/results.csv"))
        return last

    return last_line


def schedule_path(outputs: Path) -> Path:
    (path,) = outputs.glob("digits/search/even-*/schedules/even_k004.json")
    return path


def owned(path: Path) -> None:
    """Let the record of the run that wrote a file hold its present bytes: what is judged then is what it says."""
    record = next(folder / "run.json" for folder in path.parents if (folder / "run.json").exists())
    content = json.loads(record.read_text())
    content["outputs"][path.relative_to(record.parent).as_posix()] = sha256(path)
    record.write_text(json.dumps(content))


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    owned(path)


def test_a_truncated_schedule_file(outputs: Path, evaluated: Callable[[Path], str]) -> None:
    path = schedule_path(outputs)
    path.write_text(path.read_text()[:100])
    owned(path)
    assert f"{path} is not valid JSON (truncated?)" in evaluated(outputs)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"times": [0, 0.5, 0.25, 0.75, 1]}, "must ascend"),
        ({"times": [0, 0.25, float("nan"), 0.75, 1]}, "finite"),
        ({"version": 2}, "newer than the 1"),
        ({"process": {"name": "linear", "T": 40, "smallest_noise_level": 0.0625}}, "process"),
    ],
    ids=["unsorted", "nan", "newer", "of another process"],
)
def test_a_schedule_file_that_cannot_be_used(
    changes: dict[str, object], reason: str, outputs: Path, evaluated: Callable[[Path], str]
) -> None:
    path = schedule_path(outputs)
    edited(path, **changes)
    assert str(path) in (sentence := evaluated(outputs))
    assert reason in sentence


def test_a_sound_schedule_file_of_another_process(outputs: Path, evaluated: Callable[[Path], str]) -> None:
    path = schedule_path(outputs)
    process = Process.linear(40, 0.0625)
    Schedule(Schedule.load(path).times, process).save(path)
    owned(path)
    sentence = evaluated(outputs)
    assert "made for Process.linear(T=40" in sentence
    assert "Process.cosine(T=40" in sentence


def test_a_missing_schedule_file(outputs: Path, evaluated: Callable[[Path], str]) -> None:
    path = schedule_path(outputs)
    path.unlink()
    assert "its output schedules/even_k004.json is missing" in evaluated(outputs)


@pytest.mark.parametrize(
    "fault", ["misses one", "has one too many", "has another shape", "holds NaN", "truncated"]
)
def test_weights_that_do_not_fit_the_model(fault: str, outputs: Path, evaluated: Callable[[Path], str]) -> None:
    (path,) = outputs.glob("digits/pretrain/*/weights.safetensors")
    tensors = load_file(path)
    name = "out.2.bias"
    if fault == "misses one":
        del tensors[name]
    elif fault == "has one too many":
        tensors["surplus"] = torch.zeros(1)
    elif fault == "has another shape":
        tensors[name] = torch.zeros(2)
    elif fault == "holds NaN":
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    owned(path)
    for folder in (outputs / "digits").glob("search/*"):
        shutil.rmtree(folder)
    sentence = evaluated(outputs)
    assert str(path) in sentence
    assert "cannot be read" in sentence if fault == "truncated" else "do not fit the model" in sentence


def test_inputs_that_changed_under_a_finished_run(outputs: Path, evaluated: Callable[[Path], str]) -> None:
    (path,) = outputs.glob("digits/pretrain/*/weights.safetensors")
    tensors = load_file(path)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, path)
    assert "is not the one that the run in" in evaluated(outputs)


def test_another_configuration_in_a_runs_folder(
    tmp_path: Path, fewstep: Callable[..., Any], tiny: list[str], written: Callable[[Path], list[str]]
) -> None:
    named = ["stage=pretrain", "run_name=mine", f"outputs={tmp_path}", *tiny]
    assert fewstep(*named).code == 0
    before = {name: (tmp_path / name).read_bytes() for name in written(tmp_path)}
    assert fewstep(*named).code == 0
    outcome = fewstep(*named, "pretrain.learning_rate=1e-5")
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1
    assert last.startswith(f"fewstep: The folder {tmp_path / 'digits' / 'pretrain' / 'mine-cosine'}")
    assert "pretrain.learning_rate is 0.004 there and 1e-05 here" in last
    assert {name: (tmp_path / name).read_bytes() for name in written(tmp_path)} == before
