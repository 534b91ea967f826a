"""Files of one run given to another, and trainings that fail: a sentence, and nothing wrong is read later."""

import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fewstep.data.digits import Digits
from fewstep.files import sha256

Fewstep = Callable[..., Any]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, fewstep: Fewstep, tiny: list[str]) -> Path:
    """Outputs of a finished search."""
    outputs = tmp_path_factory.mktemp("searched")
    assert fewstep("stage=search", f"outputs={outputs}", *tiny).code == 0
    return outputs


@pytest.fixture
def outputs(searched: Path, tmp_path: Path) -> Path:
    """A copy of them, whose searches are still to be done."""
    shutil.copytree(searched, tmp_path / "outputs")
    shutil.rmtree(tmp_path / "outputs" / "digits" / "search")
    return tmp_path / "outputs"


def statistics_path(outputs: Path, split: str) -> Path:
    (path,) = outputs.glob(f"digits/statistics/denoising_error-{split}-*/statistics.safetensors")
    return path


OTHERS = {
    "process": ["process=edm"],
    "dataset": ["dataset._target_=negatives.Negatives"],
    "split": ["statistics.split=validation"],
    "weights": ["seed=1"],
}


class Negatives(Digits):
    """Another dataset of the same shape."""

    name = "negatives"

    def images(self, split: str) -> torch.Tensor:
        return -super().images(split)


@pytest.mark.parametrize("kind", OTHERS)
def test_statistics_of_another(
    kind: str, outputs: Path, tmp_path: Path, fewstep: Fewstep, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file put in the place of the one that its run wrote."""
    module = types.ModuleType("negatives")
    module.Negatives = Negatives  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "negatives", module)
    words = OTHERS[kind]
    other = tmp_path / "other"
    assert fewstep("stage=search", f"outputs={other}", *tiny, *words).code == 0
    mine = statistics_path(outputs, "train")
    shutil.copy(statistics_path(other, "validation" if kind == "split" else "train"), mine)
    outcome = fewstep("stage=search", f"outputs={outputs}", *tiny)
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1
    assert last.startswith(f"fewstep: The input 'denoising_error' ({mine}) is not the one that the run in")
    assert "restore it, or remove that folder" in last
    assert not list(outputs.rglob("elbo_dp_k*.json"))


def test_the_remedy_of_the_sentence_works(outputs: Path, fewstep: Fewstep, tiny: list[str]) -> None:
    path = statistics_path(outputs, "train")
    sound = path.read_bytes()
    path.write_bytes(sound[:-8] + bytes(8))
    assert fewstep("stage=search", f"outputs={outputs}", *tiny).code == 1
    shutil.rmtree(path.parent)
    assert fewstep("stage=search", f"outputs={outputs}", *tiny).code == 0
    assert path.read_bytes() == sound


def test_statistics_with_nan(outputs: Path, fewstep: Fewstep, tiny: list[str]) -> None:
    """Of a run whose record agrees: the reader itself refuses what would make a table with NaN."""
    path = statistics_path(outputs, "train")
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    tensors["error"][3, 0] = torch.nan
    save_file(tensors, path, header)
    record = json.loads((path.parent / "run.json").read_text())
    record["outputs"][path.name] = sha256(path)
    (path.parent / "run.json").write_text(json.dumps(record))
    last = fewstep("stage=search", f"outputs={outputs}", *tiny).err.splitlines()[-1]
    assert last.startswith(f"fewstep: The statistics file {path} cannot be used.")
    assert "error holds NaN" in last


@pytest.mark.parametrize("validate_every", [1, 3])
@pytest.mark.parametrize("rate", ["1e6", "1e30"])
def test_a_training_that_fails_keeps_good_checkpoints_alone(
    rate: str, validate_every: int, tmp_path: Path, fewstep: Fewstep, tiny: list[str]
) -> None:
    words = [word for word in tiny if not word.startswith("pretrain.")]
    words += ["pretrain.iterations=4", f"pretrain.validate_every={validate_every}", "pretrain.warmup=0"]
    outcome = fewstep(
        "stage=pretrain", f"outputs={tmp_path}", *words, "pretrain.batch_size=16", f"pretrain.learning_rate={rate}"
    )
    for path in tmp_path.rglob("*.ckpt"):
        tensors = torch.load(path, weights_only=False)["state_dict"].values()
        assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    if outcome.code == 0:  # absurd weights may be finite
        assert rate == "1e6"
        return
    last = outcome.err.splitlines()[-1]
    assert last.startswith(("fewstep: The training loss is ", "fewstep: The validation error is "))
    assert last.endswith("the last good checkpoint is kept. Lower the learning rate.")
    assert not list(tmp_path.rglob("weights.safetensors"))
    assert not list(tmp_path.rglob("run.json"))
