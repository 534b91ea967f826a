"""SIGKILL at random moments over all stages, and a start again each time: the outcome is an unbroken run's."""

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from soak.command import STAGES, STARTUP, Attempt, difference, outcome
from soak.table import Part

PER_RUN = 8  # kills before a run is left to end


class Mark(NamedTuple):
    """A line that says that a stage begins, and the seconds until the next one."""

    stage: str
    line: str
    seconds: float


class Moment(NamedTuple):
    """When a process is killed: so many seconds after a mark, the `number`-th of the unbroken run."""

    number: int
    mark: Mark
    delay: float

    def __str__(self) -> str:
        return f"{self.delay:.3f} s after mark {self.number} ({self.mark.stage})"


def unbroken(outputs: Path, words: Sequence[str] = ()) -> list[Mark]:
    """Run once without interruption; all marks, the start of the process first."""
    attempt = Attempt(outputs, words)
    wrong = attempt.end()
    if wrong is not None:
        raise AssertionError(f"the unbroken run {wrong}")
    begun = [(0.0, STARTUP, ""), *attempt.marks]
    ends = [moment for moment, _, _ in begun[1:]] + [attempt.lasted]
    return [Mark(stage, line, end - moment) for (moment, stage, line), end in zip(begun, ends, strict=True)]


def plan(marks: list[Mark], draw: random.Random) -> list[Moment]:
    """The moments of one run's kills, ascending.

    Each falls into a stage drawn evenly, and within it into a moment drawn evenly over its seconds.
    """
    moments = []
    for _ in range(PER_RUN):
        stage = draw.choice([STARTUP, *STAGES, *STAGES])
        numbers = [number for number, mark in enumerate(marks) if mark.stage == stage]
        number = draw.choices(numbers, [marks[number].seconds for number in numbers])[0]
        moments.append(Moment(number, marks[number], draw.random() * marks[number].seconds))
    return sorted(moments)


def kill(root: Path, kills: int, seed: int) -> list[Part]:
    """At least `kills` kills that came before the end, over as many runs as it takes."""
    marks = unbroken(root / "unbroken")
    expected, draw = outcome(root / "unbroken"), random.Random(seed)
    killed: Counter[str] = Counter()
    wrong: list[str] = []
    runs = 0
    while killed.total() < kills and runs < 2 * kills:
        runs += 1
        outputs = root / f"run{runs}"
        moments = plan(marks, draw)[: kills - killed.total()]
        for moment in moments:
            attempt = Attempt(outputs)
            if attempt.reaches_line(moment.mark.line, moment.delay) and attempt.kill():
                killed[attempt.stage] += 1
                print(f"  run {runs}: killed in {attempt.stage}, {moment}", flush=True)
                continue
            failed = attempt.end()  # it ended before its moment, or could not start
            if failed:
                wrong.append(f"run {runs}, {moment}: {failed}")
            break
        failed = Attempt(outputs).end() or difference(expected, outcome(outputs))
        if failed:
            when = ", ".join(map(str, moments))
            wrong.append(f"run {runs}, killed {when}: {failed}")
        else:
            shutil.rmtree(outputs)
    of_stage = ", ".join(f"{stage} {killed[stage]}" for stage in (STARTUP, *STAGES))
    return [
        Part("SIGKILL, start again", f"{killed.total()} kills in {runs} runs: {of_stage}", killed.total(), wrong)
    ]
