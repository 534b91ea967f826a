"""A checkpoint is whole or absent: what fails half way leaves the old one, and a damaged one is a sentence."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from fewstep.errors import UserError
from fewstep.modules.checkpoints import AtomicCheckpoints

OLD, NEW = {"step": 1, "weight": torch.ones(3)}, {"step": 2, "weight": torch.zeros(3)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a sound checkpoint."""
    AtomicCheckpoints().save_checkpoint(OLD, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def step(path: Path) -> int:
    loaded = AtomicCheckpoints().load_checkpoint(path, weights_only=False)
    assert loaded["weight"].tolist() == [2.0 - loaded["step"]] * 3
    return int(loaded["step"])


def test_the_newest_is_read(path: Path) -> None:
    AtomicCheckpoints().save_checkpoint(NEW, path)
    assert step(path) == 2
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.write_bytes"])
def test_what_fails_half_way_leaves_the_old_one(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, fails)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpoints().save_checkpoint(NEW, path)
    monkeypatch.undo()
    assert step(path) == 1
    assert list(path.parent.iterdir()) == [path]


def test_it_never_lies_elsewhere_and_is_not_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A move from another disk would be a copy, which can be cut short."""

    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(shutil, "move", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent / "there is no such folder"))
    AtomicCheckpoints().save_checkpoint(NEW, path)
    assert step(path) == 2


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_damaged_one_is_a_sentence(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged .*; remove it"):
        AtomicCheckpoints().load_checkpoint(path, weights_only=False)
