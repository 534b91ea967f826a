"""SIGKILL of the command and of single ranks on two devices, and a start again: as if there had been no kill."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from soak.command import Attempt, difference, outcome
from soak.kill import Moment, plan, unbroken
from soak.table import Part

DEVICES = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
LONGEST = 60.0  # seconds that a job may last after one of its ranks has died
COMMAND = "the command"


def ranks(root: Path, kills: int, seed: int) -> list[Part]:
    """Kills at random moments, in turn of the command and of each rank."""
    marks = unbroken(root / "unbroken", DEVICES)
    expected, draw = outcome(root / "unbroken"), random.Random(seed)
    whom = [COMMAND, *(f"rank {number}" for number in range(2))]
    wrong: list[str] = []
    killed = dict.fromkeys(whom, 0)
    runs = 0
    while sum(killed.values()) < kills and runs < 2 * kills:
        runs += 1
        outputs, moments = root / f"run{runs}", plan(marks, draw)[: kills - sum(killed.values())]
        for moment in moments:
            name = min(whom, key=killed.__getitem__)
            attempt = Attempt(outputs, DEVICES)
            if not attempt.reaches_line(moment.mark.line, moment.delay):
                failed = attempt.end()  # it ended before its moment, or could not start
                if failed:
                    wrong.append(f"run {runs}, {moment}: {failed}")
                break
            failed = _kill(attempt, name, moment)
            if failed is not None:
                killed[name] += 1
                print(f"  run {runs}: killed {name} in {attempt.stage}, {moment}", flush=True)
                wrong += [f"run {runs}, {name} killed {moment}: {failed}"] if failed else []
        failed = Attempt(outputs, DEVICES).end() or difference(expected, outcome(outputs))
        if failed:
            wrong.append(f"run {runs}, killed {', '.join(map(str, moments))}: {failed}")
        else:
            shutil.rmtree(outputs)
    detail = ", ".join(f"{name} {number}" for name, number in killed.items())
    return [Part("SIGKILL on two devices, start again", f"{runs} runs: {detail}", sum(killed.values()), wrong)]


def _kill(attempt: Attempt, name: str, moment: Moment) -> str | None:
    """Kill; what went wrong then, an empty string for nothing, and None where there was nobody left to kill."""
    if name == COMMAND:
        return "" if attempt.kill() else None
    number, processes = int(name.rpartition(" ")[2]), _ranks_of(attempt.process.pid)
    while len(processes) <= number and attempt.process.poll() is None:  # it has not started yet
        time.sleep(0.05)
        processes = _ranks_of(attempt.process.pid)
    with suppress(ProcessLookupError, IndexError):
        os.kill(processes[number], signal.SIGKILL)
    code = attempt.ends_within(LONGEST)
    if code == 0:
        return None
    told = f"{name.capitalize()} of 2 ended with SIGKILL"
    if code != 1 or not any(told in line for _, line in attempt.lines):
        return f"the command ended with {code} and {attempt.last_line!r}"
    return ""


def _ranks_of(parent: int) -> list[int]:
    """The processes of the ranks, in their order."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(state[1]) == parent and b"spawn_main" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return sorted(found)
