"""Runs: one folder each, complete or not, skipped, resumed, locked, never overwritten."""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from fewstep.errors import UserError
from fewstep.files import sha256, write_atomically
from fewstep.run import Run, fingerprint, read_record

CONFIG = {"steps": [4, 8], "model": {"width": 32, "depth": 2}, "seed": 0}


def finish(run: Run) -> None:
    run.finish(network_calls=7, device="cpu", seed=0, facts={"accuracy": 0.5})


def completed(folder: Path, **inputs: Path) -> None:
    with Run(folder, CONFIG, inputs) as run:
        write_atomically(run.folder / "tables" / "numbers.txt", "1 2 3")
        finish(run)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: a full disk, as far as the process can tell."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def read_only_folder(*, holding_run: bool) -> Iterator[Path]:
    """A folder that this process may read but not write; root is not held back by modes, so it steps down."""
    outer = Path(tempfile.mkdtemp())
    outer.chmod(0o755)
    folder = outer / "run"
    folder.mkdir()
    if holding_run:
        completed(folder)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        if not os.access(outer, os.X_OK, effective_ids=True):
            pytest.skip("the temporary folder is closed to other users")
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(outer)


def start(script: str, *arguments: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestCompletion:
    def test_a_finished_run_is_complete_and_skipped(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        with Run(folder, CONFIG) as run:
            assert not run.complete
            assert not run.resumed
            finish(run)
        before = (folder / "run.json").read_bytes()
        with Run(folder, CONFIG) as run:
            assert run.complete
        assert (folder / "run.json").read_bytes() == before

    def test_the_record_says_what_the_numbers_come_from(self, tmp_path: Path) -> None:
        weights = tmp_path / "weights.bin"
        weights.write_bytes(b"abc")
        completed(tmp_path / "run", weights=weights)
        record = read_record(tmp_path / "run")
        assert record["config"] == CONFIG
        # FIPS 180-2, appendix B.1: the digest of "abc".
        abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert record["inputs"] == {"weights": {"path": str(weights), "sha256": abc}}
        assert (record["network_calls"], record["device"], record["seed"]) == (7, "cpu", 0)
        assert record["facts"] == {"accuracy": 0.5}
        assert record["seconds"] >= 0
        assert set(record["versions"]) == {"python", "torch", "pytorch-lightning", "fewstep", "numpy"}
        assert record["versions"]["python"] == sys.version.split()[0]
        assert "git" in record

    def test_outputs_are_all_files_but_hidden_ones_and_those_for_resuming(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        with Run(folder, CONFIG) as run:
            kept = ["a.txt", "deep/er/b.txt", "started.txt"]
            for name in [*kept, ".hidden", ".hydra/config.yaml", "unfinished/state.pt", "checkpoints/last.ckpt"]:
                write_atomically(folder / name, name)
            finish(run)
        assert read_record(folder)["outputs"] == {name: sha256(folder / name) for name in kept}
        assert not (folder / "started.json").exists()

    def test_a_missing_output_is_named(self, tmp_path: Path) -> None:
        completed(tmp_path / "run")
        (tmp_path / "run" / "tables" / "numbers.txt").unlink()
        with (
            pytest.raises(UserError, match=r"output tables/numbers\.txt is missing"),
            Run(tmp_path / "run", CONFIG),
        ):
            pass

    def test_finish_is_for_an_entered_and_unfinished_run(self, tmp_path: Path) -> None:
        run = Run(tmp_path / "run", CONFIG)
        with pytest.raises(RuntimeError):
            finish(run)
        with run:
            finish(run)
            with pytest.raises(RuntimeError):
                finish(run)

    def test_an_error_after_finish_leaves_the_run_complete(self, tmp_path: Path) -> None:
        def fail_late() -> None:
            with Run(tmp_path / "run", CONFIG) as run:
                finish(run)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_late()
        with Run(tmp_path / "run", CONFIG) as run:
            assert run.complete


class TestResuming:
    @pytest.mark.parametrize("interruption", [ZeroDivisionError, KeyboardInterrupt, UserError, None])
    def test_leaving_without_finish_leaves_the_run_incomplete(
        self, tmp_path: Path, interruption: type[BaseException] | None
    ) -> None:
        expected = pytest.raises(interruption) if interruption else contextlib.nullcontext()
        with expected, Run(tmp_path, CONFIG):
            write_atomically(tmp_path / "half.txt", "half")
            if interruption:
                raise interruption
        with pytest.raises(UserError, match="not complete"):
            read_record(tmp_path)
        with Run(tmp_path, CONFIG) as run:
            assert run.resumed
            assert not run.complete
            finish(run)
        assert list(run.record()["outputs"]) == ["half.txt"]

    def test_seconds_of_interrupted_attempts_add_up(self, tmp_path: Path) -> None:
        with Run(tmp_path, CONFIG):
            pass
        started = json.loads((tmp_path / "started.json").read_text())
        (tmp_path / "started.json").write_text(json.dumps(started | {"seconds": 1000.0}))
        with Run(tmp_path, CONFIG):
            pass
        with Run(tmp_path, CONFIG) as run:
            finish(run)
        assert 1000.0 <= run.record()["seconds"] < 1060.0

    def test_a_killed_run_resumes_and_leaves_no_rubbish(self, tmp_path: Path) -> None:
        script = f"""
import sys, time
from pathlib import Path
from fewstep.files import write_atomically
from fewstep.run import Run

def half(path):
    path.write_text("half")
    print("half", flush=True)
    time.sleep(60)

with Run(Path(sys.argv[1]), {CONFIG!r}) as run:
    write_atomically(run.folder / "first.txt", "first")
    write_atomically(run.folder / "second.txt", half)
"""
        folder = tmp_path / "run"
        process = start(script, folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
        process.communicate()
        with pytest.raises(UserError, match="not complete"):
            read_record(folder)
        with Run(folder, CONFIG) as run:
            assert run.resumed
            assert (folder / "first.txt").read_text() == "first"
            assert not (folder / "second.txt").exists()
            write_atomically(folder / "second.txt", "second")
            finish(run)
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "first.txt", "run.json", "second.txt"]

    def test_killed_between_the_two_markers_the_run_is_complete(self, tmp_path: Path) -> None:
        completed(tmp_path)
        shutil.copy(tmp_path / "run.json", tmp_path / "started.json")
        with Run(tmp_path, CONFIG) as run:
            assert run.complete


class TestTwoProcesses:
    def test_the_second_waits_says_so_and_finds_the_run_complete(self, tmp_path: Path) -> None:
        script = f"""
import sys
from pathlib import Path
from fewstep.run import Run

with Run(Path(sys.argv[1]), {CONFIG!r}) as run:
    print("complete" if run.complete else "incomplete")
"""
        with Run(tmp_path, CONFIG) as run:
            process = start(script, tmp_path)
            assert process.stderr is not None
            line = process.stderr.readline()
            finish(run)
        output, errors = process.communicate(timeout=60)
        assert line == f"waiting for {tmp_path}, held by another process\n"
        assert (output, errors, process.returncode) == ("complete\n", "", 0)

    def test_of_two_at_once_exactly_one_does_the_work(self, tmp_path: Path) -> None:
        script = f"""
import sys, time
from pathlib import Path
from fewstep.run import Run

folder, go, work = map(Path, sys.argv[1:])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
with Run(folder, {CONFIG!r}) as run:
    if not run.complete:
        with work.open("a") as handle:
            handle.write("worked\\n")
        time.sleep(0.2)
        run.finish(network_calls=0, device="cpu", seed=None)
"""
        work = tmp_path / "work.txt"
        processes = [start(script, tmp_path / "run", tmp_path / "go", work) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        (tmp_path / "go").touch()
        for process in processes:
            process.communicate(timeout=60)
        assert [process.returncode for process in processes] == [0, 0]
        assert work.read_text() == "worked\n"

    def test_a_complete_run_is_found_without_waiting(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        completed(tmp_path)
        with FileLock(tmp_path / ".lock"), caplog.at_level(logging.INFO), Run(tmp_path, CONFIG) as run:
            assert run.complete
        assert "waiting" not in caplog.text


class TestOtherRuns:
    @pytest.mark.parametrize("done", [True, False])
    def test_another_configuration_is_refused_with_keys_and_values(self, tmp_path: Path, done: bool) -> None:
        with Run(tmp_path, CONFIG) as run:
            if done:
                finish(run)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        other = {"steps": [4], "model": {"width": 64, "depth": 2}, "seed": 0, "name": "x"}
        with pytest.raises(UserError) as refusal, Run(tmp_path, other):
            pass
        message = str(refusal.value)
        assert str(tmp_path) in message
        assert "model.width is 32 there and 64 here" in message
        assert "steps is [4,8] there and [4] here" in message
        assert 'name is absent there and "x" here' in message
        assert "depth" not in message
        assert "seed" not in message
        assert "remove that folder" in message
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_refused_run_does_not_keep_the_folder_locked(self, tmp_path: Path) -> None:
        with Run(tmp_path, CONFIG):
            pass
        refused = Run(tmp_path, {"seed": 1})
        with pytest.raises(UserError, match="another configuration"):
            refused.__enter__()
        with FileLock(tmp_path / ".lock", timeout=0) as lock:
            assert lock.is_locked

    def test_beyond_five_differing_keys_a_count(self, tmp_path: Path) -> None:
        with Run(tmp_path, {f"k{i}": 0 for i in range(8)}):
            pass
        with (
            pytest.raises(UserError, match="and 3 more differ") as refusal,
            Run(tmp_path, {f"k{i}": 1 for i in range(8)}),
        ):
            pass
        assert str(refusal.value).count(" there and ") == 5

    def test_tuples_and_order_do_not_make_another_configuration(self, tmp_path: Path) -> None:
        with Run(tmp_path, {"a": (1, 2), "b": 3}) as run:
            finish(run)
        with Run(tmp_path, {"b": 3, "a": [1, 2]}) as run:
            assert run.complete

    @pytest.mark.parametrize("done", [True, False])
    def test_a_changed_input_is_named(self, tmp_path: Path, done: bool) -> None:
        folder, weights = tmp_path / "run", tmp_path / "weights.bin"
        weights.write_bytes(b"old")
        with Run(folder, CONFIG, {"weights": weights}) as run:
            if done:
                finish(run)
        weights.write_bytes(b"new")
        with (
            pytest.raises(UserError, match=r"'weights' .*is not the one"),
            Run(folder, CONFIG, {"weights": weights}),
        ):
            pass
        with pytest.raises(UserError, match="'weights'"), Run(folder, CONFIG):
            pass

    def test_a_moved_input_with_the_same_bytes_is_the_same(self, tmp_path: Path) -> None:
        weights = tmp_path / "weights.bin"
        weights.write_bytes(b"same")
        completed(tmp_path / "run", weights=weights)
        moved = weights.rename(tmp_path / "moved.bin")
        with Run(tmp_path / "run", CONFIG, {"weights": moved}) as run:
            assert run.complete

    def test_a_missing_input_is_named_and_nothing_begins(self, tmp_path: Path) -> None:
        with (
            pytest.raises(UserError, match="'weights' is missing"),
            Run(tmp_path / "run", CONFIG, {"weights": tmp_path / "none"}),
        ):
            pass
        assert not (tmp_path / "run").exists()

    def test_a_folder_of_somebody_else_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(UserError, match="holds no run"), Run(tmp_path, CONFIG):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


class TestDamage:
    @pytest.mark.parametrize("length", [0, 1, 40, 0.5, 0.98])
    @pytest.mark.parametrize("done", [True, False])
    def test_truncated_markers(self, tmp_path: Path, done: bool, length: float) -> None:
        with Run(tmp_path, CONFIG) as run:
            if done:
                finish(run)
        marker = tmp_path / ("run.json" if done else "started.json")
        text = marker.read_bytes()
        marker.write_bytes(text[: int(length * len(text)) if isinstance(length, float) else length])
        with pytest.raises(UserError, match=f"{marker.name} is damaged"), Run(tmp_path, CONFIG):
            pass

    @pytest.mark.parametrize("field", ["config", "inputs", "seconds", "outputs", "facts", "device", "format"])
    @pytest.mark.parametrize("value", ["absent", None, [1], float("nan"), 10**400])
    def test_fields_of_the_wrong_kind(self, tmp_path: Path, field: str, value: object) -> None:
        completed(tmp_path)
        record = json.loads((tmp_path / "run.json").read_text()) | {field: value}
        if value == "absent":
            del record[field]
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"run\.json (is damaged|has a newer format)"):
            read_record(tmp_path)

    @pytest.mark.parametrize("text", [b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b"null", b'{"format": 2}'])
    def test_files_that_are_no_markers(self, tmp_path: Path, text: bytes) -> None:
        (tmp_path / "started.json").write_bytes(text)
        with pytest.raises(UserError, match=r"started\.json"), Run(tmp_path, CONFIG):
            pass
        assert (tmp_path / "started.json").read_bytes() == text

    def test_inputs_without_hashes(self, tmp_path: Path) -> None:
        completed(tmp_path)
        record = json.loads((tmp_path / "run.json").read_text()) | {"inputs": {"weights": {"path": "x"}}}
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match="'inputs'"), Run(tmp_path, CONFIG):
            pass

    def test_no_run_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="There is no run"):
            read_record(tmp_path / "none")


class TestUnwritableFolders:
    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        with pytest.raises(UserError, match="is a file"), Run(tmp_path / "file", CONFIG):
            pass
        with pytest.raises(UserError, match="cannot hold a run"), Run(tmp_path / "file" / "run", CONFIG):
            pass
        assert (tmp_path / "file").read_text() == "content"

    def test_a_read_only_folder_holds_no_new_run(self, tmp_path: Path) -> None:
        with read_only_folder(holding_run=False) as folder:
            with pytest.raises(UserError, match=r"cannot hold a run \(Permission denied\)"), Run(folder, CONFIG):
                pass
            assert list(folder.iterdir()) == []

    def test_a_complete_run_in_a_read_only_folder_is_skipped(self) -> None:
        with read_only_folder(holding_run=True) as folder, Run(folder, CONFIG) as run:
            assert run.complete

    def test_a_full_disk_on_entry(self, tmp_path: Path) -> None:
        with (
            file_size_limit(0),
            pytest.raises(UserError, match="cannot hold a run"),
            Run(tmp_path / "run", CONFIG),
        ):
            pass
        with Run(tmp_path / "run", CONFIG) as run:
            assert not run.resumed

    def test_a_full_disk_in_mid_run(self, tmp_path: Path) -> None:
        def fill_the_disk() -> None:
            with Run(tmp_path, CONFIG) as run, file_size_limit(1000):
                write_atomically(run.folder / "small.txt", "small")
                write_atomically(run.folder / "large.txt", "x" * 2000)

        with pytest.raises(UserError, match=r"stopped because a file could not be written"):
            fill_the_disk()
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "small.txt", "started.json"]
        with Run(tmp_path, CONFIG) as run:
            assert run.resumed

    def test_a_library_that_reports_a_full_disk_in_words(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="No space left on device"), Run(tmp_path, CONFIG):
            raise RuntimeError("I/O error: No space left on device (os error 28)")

    def test_other_errors_pass_through(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), Run(tmp_path, CONFIG):
            (tmp_path / "absent").read_text()


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
