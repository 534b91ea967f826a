"""A run is complete once its record says so, and then skipped; equal configurations share a fingerprint."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import UserError
from fewstep.files import sha256, write_atomically
from fewstep.run import Run, fingerprint, read_record


class TestCompletion:
    def test_a_finished_run_is_complete_and_skipped(
        self, tmp_path: Path, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        folder = tmp_path / "a" / "b"
        with Run(folder, config) as run:
            assert not run.complete
            assert not run.resumed
            finish(run)
        before = (folder / "run.json").read_bytes()
        with Run(folder, config) as run:
            assert run.complete
        assert (folder / "run.json").read_bytes() == before

    def test_the_record_says_what_the_numbers_come_from(
        self, tmp_path: Path, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        weights = tmp_path / "weights.bin"
        weights.write_bytes(b"abc")
        completed(tmp_path / "run", weights=weights)
        record = read_record(tmp_path / "run")
        assert record["config"] == config
        # FIPS 180-2, appendix B.1: the digest of "abc".
        abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert record["inputs"] == {"weights": {"path": str(weights), "sha256": abc}}
        assert (record["network_calls"], record["device"], record["seed"]) == (7, "cpu", 0)
        assert record["facts"] == {"accuracy": 0.5}
        assert record["seconds"] >= 0
        assert set(record["versions"]) == {"python", "torch", "pytorch-lightning", "fewstep", "numpy"}
        assert record["versions"]["python"] == sys.version.split()[0]
        assert "git" in record

    def test_outputs_are_all_files_but_hidden_ones_and_those_for_resuming(
        self, tmp_path: Path, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        folder = tmp_path / "run"
        with Run(folder, config) as run:
            kept = ["a.txt", "deep/er/b.txt", "started.txt"]
            for name in [*kept, ".hidden", ".hydra/config.yaml", "unfinished/state.pt", "checkpoints/last.ckpt"]:
                write_atomically(folder / name, name)
            finish(run)
        assert read_record(folder)["outputs"] == {name: sha256(folder / name) for name in kept}
        assert not (folder / "started.json").exists()

    def test_a_missing_output_is_named(
        self, tmp_path: Path, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        completed(tmp_path / "run")
        (tmp_path / "run" / "tables" / "numbers.txt").unlink()
        with (
            pytest.raises(UserError, match=r"output tables/numbers\.txt is missing"),
            Run(tmp_path / "run", config),
        ):
            pass

    def test_finish_is_for_an_entered_and_unfinished_run(
        self, tmp_path: Path, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        run = Run(tmp_path / "run", config)
        with pytest.raises(RuntimeError):
            finish(run)
        with run:
            finish(run)
            with pytest.raises(RuntimeError):
                finish(run)

    def test_an_error_after_finish_leaves_the_run_complete(
        self, tmp_path: Path, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        def fail_late() -> None:
            with Run(tmp_path / "run", config) as run:
                finish(run)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_late()
        with Run(tmp_path / "run", config) as run:
            assert run.complete


class TestFingerprint:
    def test_equal_for_equal_content_only(self, tmp_path: Path) -> None:
        one, same, other = (tmp_path / name for name in ("one", "same", "other"))
        one.write_text("1")
        same.write_text("1")
        other.write_text("2")
        mark = fingerprint({"a": 1, "b": [2]}, {"x": one})
        assert len(mark) == 10
        assert int(mark, 16) >= 0
        assert mark == fingerprint({"b": (2,), "a": 1}, {"x": same})
        different = [
            fingerprint({"a": 1, "b": [2]}),
            fingerprint({"a": 1, "b": [2]}, {"x": other}),
            fingerprint({"a": 1, "b": [2]}, {"y": one}),
            fingerprint({"a": 1, "b": [3]}, {"x": one}),
        ]
        assert len({mark, *different}) == 5
