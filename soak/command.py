"""The command `fewstep` at tiny size: started, watched, killed; and what counts of its outcome."""

import contextlib
import csv
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TINY = (
    "process.T=40",
    "steps=[2,4,8]",
    "pretrain.iterations=30",
    "pretrain.batch_size=32",
    "pretrain.validate_every=20",
    "finetune.steps=4",
    "finetune.iterations=20",
    "finetune.validate_every=10",
    "statistics.images=16",
    "evaluation.images=16",
    "evaluation.samples=70",
    "evaluation.sample_steps={ddim:[2,4],ancestral:[4]}",
    "model.backbone.model_channels=8",
    "features.epochs=2",
    "threads=1",
)
LONGEST = 600.0  # seconds after which a command hangs
STARTUP = "start"  # before the first stage's line
STAGES = ("pretrain", "statistics", "search", "features", "finetune", "evaluate", "report")
_MARK = re.compile(rf"({'|'.join(STAGES)}) +\S")
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")
_OF_THIS_ATTEMPT = ("seconds", "versions", "git")
# What tells wall seconds besides its numbers, in the report's folder alone.
_TIMED = ("results.csv", "report.html")


@dataclass
class Attempt:
    """One process of the command; its stderr is read line by line as it comes."""

    outputs: Path
    words: Sequence[str] = ()
    largest_file: int | None = None
    flags: Sequence[str] = ()
    lines: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.lasted = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fewstep", *self.flags, *TINY, *self.words, f"outputs={self.outputs}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=self.outputs.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._limit if self.largest_file is not None else None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _limit(self) -> None:
        assert self.largest_file is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic() - self.began, line.rstrip("\n")))

    @property
    def marks(self) -> list[tuple[float, str, str]]:
        """When each stage's line came, which stage's it was, and the line without the folder of outputs."""
        found = [(moment, _MARK.match(line), line) for moment, line in list(self.lines)]
        return [
            (moment, mark.group(1), line.replace(str(self.outputs), "")) for moment, mark, line in found if mark
        ]

    @property
    def stage(self) -> str:
        """The last stage that was begun."""
        return self.marks[-1][1] if self.marks else STARTUP

    def reaches(self, marks: int, delay: float) -> bool:
        """Wait for so many marks and `delay` seconds more; whether the process still runs then."""
        return self._waits(lambda: len(self.marks) >= marks) and not self._ends_within(delay)

    def reaches_line(self, line: str, delay: float) -> bool:
        """As `reaches`, of the mark of a line; an empty line is the start of the process."""
        return self._waits(lambda: line in ("", *(mark[2] for mark in self.marks))) and not self._ends_within(
            delay
        )

    def says(self, text: str, seconds: float = LONGEST) -> bool:
        """Wait until a line of stderr holds `text`; whether one does before the end."""
        return self._waits(lambda: any(text in line for _, line in self.lines), seconds)

    def _waits(self, reached: Callable[[], bool], seconds: float = LONGEST) -> bool:
        deadline = time.monotonic() + seconds
        while not reached():
            if self.process.poll() is not None:
                self._reader.join(5)
                return reached()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def kill(self) -> bool:
        """`kill -9`; whether it came before the end."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        return self.process.returncode == -signal.SIGKILL

    def ends_within(self, seconds: float) -> int | str:
        """The exit code; a hang where there is none in so many seconds."""
        return self._ended(seconds)

    def end(self) -> str | None:
        """Wait for the end; what went wrong, None where the command succeeded."""
        code = self._ended()
        return None if code == 0 else f"ended with {code}: {self.last_line}"

    def error(self) -> str:
        """Wait for the end, which must be one error sentence; the sentence.

        Raises:
            AssertionError: it succeeded, hung, crashed, or said anything else.
        """
        code = self._ended()
        sentences = [line for _, line in self.lines if line.startswith("fewstep: ")]
        if code != 1 or len(sentences) != 1 or not self.last_line.startswith("fewstep: "):
            raise AssertionError(f"ended with {code} and {self.last_line!r} instead of one error sentence")
        if any(line.startswith("Traceback") for _, line in self.lines):
            raise AssertionError("a traceback stands before the error sentence")
        return sentences[0].removeprefix("fewstep: ")

    @property
    def last_line(self) -> str:
        """Of stderr."""
        return self.lines[-1][1] if self.lines else ""

    def _ended(self, longest: float = LONGEST) -> int | str:
        try:
            self.process.wait(longest)
            self.lasted = time.monotonic() - self.began
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "a hang"
        self._reader.join(5)
        return self.process.returncode


def outcome(outputs: Path) -> dict[str, str]:
    """Every file and fact that counts, with its digest: equal outcomes are equal to the last bit.

    Left out are wall seconds, versions, and what only serves to resume; a run that is not complete and a
    leftover of a write that was killed count, for there must be none.
    """
    found = {}
    for path in sorted(outputs.rglob("*")):
        name = path.relative_to(outputs).as_posix()
        parts = path.relative_to(outputs).parts
        if not path.is_file() or "jobs" in parts or "checkpoints" in parts or path.name == ".lock":
            continue
        if path.name == "run.json":
            found[name] = _record(path)
        elif path.name in _TIMED and "report" in parts:
            found[name] = _untimed(path)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if _LEFTOVER.fullmatch(path.name):
            found[f"leftover {path.parent.name}/{path.name}"] = ""
    return found


def _record(path: Path) -> str:
    record = json.loads(path.read_text())
    inputs = {name: entry["sha256"] for name, entry in record["inputs"].items()}
    outputs = {name: sha for name, sha in record["outputs"].items() if name not in _TIMED}
    rest = {key: value for key, value in record.items() if key not in _OF_THIS_ATTEMPT}
    return json.dumps(rest | {"inputs": inputs, "outputs": outputs}, sort_keys=True)


def _untimed(path: Path) -> str:
    if path.suffix != ".csv":
        return "told seconds"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if "seconds" not in row["metric"]]
    return json.dumps(rows)


def difference(there: dict[str, str], here: dict[str, str]) -> str | None:
    """The first few files in which two outcomes differ; None where they are equal."""
    differing = [name for name in sorted(there | here) if there.get(name) != here.get(name)]
    return f"{len(differing)} files differ: {', '.join(differing[:4])}" if differing else None
