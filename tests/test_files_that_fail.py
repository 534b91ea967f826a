"""A write that fails at any moment leaves the file that was there, whole, and nothing else."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fewstep.files import write_atomically
from fewstep.process import Process
from fewstep.record import read_started, write_started
from fewstep.results import Result, read_results, write_results
from fewstep.schedule import Schedule
from fewstep.statistics.storage import read_statistics, write_statistics

PROCESS = Process.cosine(40)


def write_schedule(path: Path, seed: int) -> None:
    Schedule.on_grid([0, 7 + seed, 40], PROCESS).save(path)


def write_statistics_file(path: Path, seed: int) -> None:
    write_statistics(path, "kind", PROCESS, {"indices": torch.tensor([1, 2])}, {"seed": seed})


def read_statistics_file(path: Path) -> int:
    seed: int = read_statistics(path, "kind", {"indices": ("timesteps",)}, {"seed": int}).facts["seed"]
    return seed


# Everything that is written and read later: how it is written with a seed, and the seed read from it.
FILES: dict[str, tuple[str, Callable[[Path, int], object], Callable[[Path], object]]] = {
    "schedule": ("s.json", write_schedule, lambda path: Schedule.load(path).indices[1] - 7),
    "statistics": ("s.safetensors", write_statistics_file, read_statistics_file),
    "results": (
        "results.csv",
        lambda path, seed: write_results(path, [Result(metric="m", value=1.5, train_seed=seed)]),
        lambda path: int(read_results(path)["train_seed"][0]),
    ),
    "marker": (
        "started.json",
        lambda path, seed: write_started(path.parent, {"config": {"seed": seed}, "inputs": {}, "seconds": 0}),
        lambda path: read_started(path.parent)["config"]["seed"],
    ),
    "tensors": (
        "t.safetensors",
        lambda path, seed: write_atomically(path, lambda part: save_file({"seed": torch.tensor(seed)}, part)),
        lambda path: load_file(path)["seed"].item(),
    ),
}
MOMENTS = ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_the_old_file_stays(kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write, read = FILES[kind]
    path = tmp_path / name
    write(path, 0)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(moment, fails)
    with pytest.raises(OSError, match="No space left"):
        write(path, 1)
    monkeypatch.undo()
    assert read(path) == 0
    assert list(tmp_path.iterdir()) == [path]
    write(path, 1)
    assert read(path) == 1


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", FILES)
def test_without_an_old_file_there_is_none(
    kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write, _ = FILES[kind]

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, fails)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FILES)
def test_a_file_larger_than_allowed_leaves_the_old_one(kind: str, tmp_path: Path) -> None:
    """The operating system's own refusal."""
    name, write, read = FILES[kind]
    path = tmp_path / name
    write(path, 0)
    size = path.stat().st_size
    allowed, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, bytes(size))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, hard))
    assert read(path) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_atomically(path, b"old")
    with pytest.raises((SafetensorError, ValueError)):
        write_atomically(path, lambda part: save_file({"a": torch.zeros(2), "b": "no tensor"}, part))  # type: ignore[dict-item]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
