"""A file of statistics comes back to the last bit; what it should not hold is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.storage import read_statistics, write_statistics

KIND = "numbers"
SIZES = {"indices": ("timesteps",), "error": ("timesteps", "images"), "prior": ("images",)}
OPTIONAL = {"pairs": ("timesteps", 2, "images")}
FACTS = {"levels": int, "split": str}
PROCESS = Process.cosine(40)


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "indices": torch.tensor([1, 7, 40]),
        "error": torch.rand(3, 5, dtype=torch.float64, generator=generator),
        "prior": torch.rand(5, dtype=torch.float64, generator=generator),
        "pairs": torch.rand(3, 2, 5, dtype=torch.float64, generator=generator),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a sound file."""
    write_statistics(tmp_path / "s.safetensors", KIND, PROCESS, tensors(), {"levels": 17, "split": "train"})
    return tmp_path / "s.safetensors"


def read(path: Path) -> Any:
    return read_statistics(path, KIND, SIZES, FACTS, OPTIONAL)


def rewrite(path: Path, spoil: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["fewstep"])
    content = load_file(path)
    spoil(content, header)
    save_file(content, path, {"fewstep": json.dumps(header)})


def test_what_is_written_is_read(path: Path) -> None:
    process, read_tensors, facts = read(path)
    assert process == PROCESS
    assert facts == {"levels": 17, "split": "train"}
    assert read_tensors.keys() == tensors().keys()
    assert all(torch.equal(read_tensors[name], tensor) for name, tensor in tensors().items())


def test_an_optional_tensor_may_be_absent(path: Path) -> None:
    rewrite(path, lambda content, _: content.pop("pairs"))
    assert read(path).tensors.keys() == SIZES.keys()


FAULTS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], object]] = {
    "lacks 'error'|cannot be read": lambda content, _: content.pop("error"),
    "lacks 'levels'": lambda _, header: header.pop("levels"),
    "does not hold statistics of the kind numbers": lambda _, header: header.update(kind="letters"),
    "levels is True": lambda _, header: header.update(levels=True),
    "levels is -3": lambda _, header: header.update(levels=-3),
    "split is None, but must be text": lambda _, header: header.update(split=None),
    "no process 'line'": lambda _, header: header.update(process={"name": "line"}),
    "not by 3": lambda _, header: header.update(process=3),
    "error holds NaN": lambda content, _: content["error"][1].fill_(torch.nan),
    "prior holds NaN or infinity": lambda content, _: content["prior"][1:2].fill_(torch.inf),
    r"prior holds torch\.float32": lambda content, _: content.update(prior=torch.zeros(5)),
    r"prior has shape \[4\] instead of \[images = 5\]": lambda content, _: content.update(
        prior=torch.zeros(4, dtype=torch.float64)
    ),
    r"pairs has shape \[3, 3, 5\] instead of \[timesteps = 3, 2, images = 5\]": lambda content, _: content.update(
        pairs=torch.zeros(3, 3, 5, dtype=torch.float64)
    ),
    r"prior has shape \[\]": lambda content, _: content.update(prior=torch.tensor(0.0, dtype=torch.float64)),
    r"indices must ascend within 1 … 40": lambda content, _: content.update(indices=torch.tensor([1, 7, 41])),
    r"given were \[0, 7, 40\]": lambda content, _: content.update(indices=torch.tensor([0, 7, 40])),
    r"given were \[7, 7, 40\]": lambda content, _: content.update(indices=torch.tensor([7, 7, 40])),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_what_it_should_not_hold_is_named(sentence: str, path: Path) -> None:
    rewrite(path, FAULTS[sentence])
    with pytest.raises(UserError, match=sentence) as raised:
        read(path)
    assert str(raised.value).startswith(f"The statistics file {path} cannot be ")


def test_no_images_are_refused(path: Path) -> None:
    def emptied(content: dict[str, Tensor], _: object) -> None:
        content |= {"error": content["error"][:, :0], "prior": content["prior"][:0]}
        del content["pairs"]

    rewrite(path, emptied)
    with pytest.raises(UserError, match="each at least 1"):
        read(path)


@pytest.mark.parametrize("header", [{}, {"fewstep": "[" * 5000}, {"fewstep": "3"}, {"fewstep": "{"}])
def test_a_header_that_is_none_is_a_sentence(header: dict[str, str], path: Path) -> None:
    save_file(tensors(), path, header)
    with pytest.raises(UserError, match=r"s\.safetensors cannot be "):
        read(path)


def test_a_file_truncated_anywhere_is_a_sentence(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be read"):
            read(path)
