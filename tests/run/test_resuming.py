"""Runs that were cut short go on, and of two processes at one run exactly one does the work."""

import contextlib
import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.run import Run, read_record


class TestResuming:
    @pytest.mark.parametrize("interruption", [ZeroDivisionError, KeyboardInterrupt, UserError, None])
    def test_leaving_without_finish_leaves_the_run_incomplete(
        self,
        tmp_path: Path,
        interruption: type[BaseException] | None,
        config: dict[str, Any],
        finish: Callable[[Run], None],
    ) -> None:
        expected = pytest.raises(interruption) if interruption else contextlib.nullcontext()
        with expected, Run(tmp_path, config):
            write_atomically(tmp_path / "half.txt", "half")
            if interruption:
                raise interruption
        with pytest.raises(UserError, match="not complete"):
            read_record(tmp_path)
        with Run(tmp_path, config) as run:
            assert run.resumed
            assert not run.complete
            finish(run)
        assert list(run.record()["outputs"]) == ["half.txt"]

    def test_seconds_of_interrupted_attempts_add_up(
        self, tmp_path: Path, config: dict[str, Any], finish: Callable[[Run], None]
    ) -> None:
        with Run(tmp_path, config):
            pass
        started = json.loads((tmp_path / "started.json").read_text())
        (tmp_path / "started.json").write_text(json.dumps(started | {"seconds": 1000.0}))
        with Run(tmp_path, config):
            pass
        with Run(tmp_path, config) as run:
            finish(run)
        assert 1000.0 <= run.record()["seconds"] < 1060.0

    def test_a_killed_run_resumes_and_leaves_no_rubbish(
        self,
        tmp_path: Path,
        config: dict[str, Any],
        finish: Callable[[Run], None],
        start: Callable[..., "subprocess.Popen[str]"],
    ) -> None:
        script = f"""
import sys, time
from pathlib import Path
from fewstep.files import write_atomically
from fewstep.run import Run

def half(path):
    path.write_text("half")
    print("half", flush=True)
    time.sleep(60)

with Run(Path(sys.argv[1]), {config!r}) as run:
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
        with Run(folder, config) as run:
            assert run.resumed
            assert (folder / "first.txt").read_text() == "first"
            assert not (folder / "second.txt").exists()
            write_atomically(folder / "second.txt", "second")
            finish(run)
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "first.txt", "run.json", "second.txt"]

    def test_killed_between_the_two_markers_the_run_is_complete(
        self, tmp_path: Path, config: dict[str, Any], completed: Callable[..., None]
    ) -> None:
        completed(tmp_path)
        shutil.copy(tmp_path / "run.json", tmp_path / "started.json")
        with Run(tmp_path, config) as run:
            assert run.complete


class TestTwoProcesses:
    def test_the_second_waits_says_so_and_finds_the_run_complete(
        self,
        tmp_path: Path,
        config: dict[str, Any],
        finish: Callable[[Run], None],
        start: Callable[..., "subprocess.Popen[str]"],
    ) -> None:
        script = f"""
import sys
from pathlib import Path
from fewstep.run import Run

with Run(Path(sys.argv[1]), {config!r}) as run:
    print("complete" if run.complete else "incomplete")
"""
        with Run(tmp_path, config) as run:
            process = start(script, tmp_path)
            assert process.stderr is not None
            line = process.stderr.readline()
            finish(run)
        output, errors = process.communicate(timeout=60)
        assert line == f"waiting for {tmp_path}, held by another process\n"
        assert (output, errors, process.returncode) == ("complete\n", "", 0)

    def test_of_two_at_once_exactly_one_does_the_work(
        self, tmp_path: Path, config: dict[str, Any], start: Callable[..., "subprocess.Popen[str]"]
    ) -> None:
        script = f"""
import sys, time
from pathlib import Path
from fewstep.run import Run

folder, go, work = map(Path, sys.argv[1:])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
with Run(folder, {config!r}) as run:
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
        self,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        config: dict[str, Any],
        completed: Callable[..., None],
    ) -> None:
        completed(tmp_path)
        with FileLock(tmp_path / ".lock"), caplog.at_level(logging.INFO), Run(tmp_path, config) as run:
            assert run.complete
        assert "waiting" not in caplog.text
