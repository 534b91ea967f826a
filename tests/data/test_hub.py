"""The hub is asked only where a setting says so and nothing lies at the path."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fewstep.data.cifar10 import Cifar10
from fewstep.data.hub import fetched
from fewstep.errors import UserError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `snapshot_download` was asked for; it makes a folder with a file."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(**arguments: Any) -> None:
        calls.append(arguments)
        if arguments["repo_id"] == "no/such":
            raise RuntimeError("404 Client Error")
        arguments["local_dir"].mkdir()
        (arguments["local_dir"] / "train.parquet").write_bytes(b"parquet")

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return calls


def test_a_path_that_exists_is_taken_and_none_is_fetched_unasked(asked: list[Any], tmp_path: Path) -> None:
    assert fetched(tmp_path, "uoft-cs/cifar10") == tmp_path
    assert fetched(tmp_path / "nothing", None) == tmp_path / "nothing"
    with pytest.raises(UserError, match="nothing, where there is no CIFAR-10"):
        Cifar10(str(tmp_path / "nothing")).images("train")
    assert asked == []


def test_parquet_files_alone_are_fetched_into_the_path(asked: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "cifar10"
    fetched(path, "uoft-cs/cifar10")
    assert [file.name for file in path.iterdir()] == ["train.parquet"]
    assert [file.name for file in tmp_path.iterdir()] == ["cifar10"]
    (call,) = asked
    assert call["repo_id"] == "uoft-cs/cifar10"
    assert call["repo_type"] == "dataset"
    assert call["allow_patterns"] == "*.parquet"
    fetched(path, "uoft-cs/cifar10")
    assert len(asked) == 1


def test_what_cannot_be_fetched_is_a_sentence(asked: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no/such cannot be fetched into .*: 404 Client Error"):
        fetched(tmp_path / "cifar10", "no/such")
    assert not (tmp_path / "cifar10").exists()


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs huggingface_hub; install it with pip install 'fewstep\[data\]'"):
        fetched(tmp_path / "cifar10", "uoft-cs/cifar10")
