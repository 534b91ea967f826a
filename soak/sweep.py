"""SIGKILL of one job of a sweep at random moments, and of the process that started the jobs: nothing is lost.

The jobs run side by side and need the same network, statistics and judge. Each time the same command is started
again, whether or not jobs of the one before still run; the outcome is that of a sweep that nobody disturbed.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from soak.command import Attempt, difference, outcome
from soak.table import Part

SWEEP = ("schedule_optimizer=even,elbo_dp", "seed=0,1", "solver=ddim")
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
}
KILLS = 4  # of a sweep, before it is left to end


def _started(outputs: Path, words: Sequence[str] = ()) -> Attempt:
    return Attempt(outputs, [*SWEEP, *words], flags=["-m"])


def sweep(root: Path, kills: int, seed: int) -> list[Part]:
    """Jobs killed under every launcher, and two sweeps at once."""
    unbroken = _started(root / "unbroken")
    failed = unbroken.end()
    if failed:
        raise AssertionError(f"the unbroken sweep {failed}")
    expected, draw = outcome(root / "unbroken"), random.Random(seed)
    parts = [
        _killed(root / name, words, kills, unbroken.lasted, expected, draw) for name, words in LAUNCHERS.items()
    ]
    return [*parts, _at_once(root / "at_once", expected)]


def _killed(
    root: Path, words: Sequence[str], kills: int, lasts: float, expected: dict[str, str], draw: random.Random
) -> Part:
    """Kill a job, or now and then the process that started it, at moments drawn evenly over a sweep's seconds."""
    root.mkdir()
    done, runs, wrong = 0, 0, list[str]()
    while done < kills and runs < kills:
        runs += 1
        outputs, moments, begun = root / f"run{runs}", list[str](), list[int]()
        for _ in range(min(KILLS, kills - done)):
            attempt, moment = _started(outputs, words), draw.random() * lasts
            time.sleep(moment)
            jobs = [pid for pid in _descendants(attempt.process.pid) if _works(pid)]
            victim = draw.choice([*jobs, attempt.process.pid])
            if attempt.process.poll() is not None or not _kill(victim):
                break
            done += 1
            moments.append(f"{'the launcher' if victim == attempt.process.pid else 'a job'} after {moment:.2f} s")
            print(f"  {root.name} run {runs}: killed {moments[-1]}", flush=True)
            attempt.process.wait()
            begun += jobs
        failed = _started(outputs, words).end()
        _wait_for(begun)
        failed = failed or difference(expected, outcome(outputs))
        if failed:
            wrong.append(f"{root.name} run {runs}, killed {', '.join(moments)}: {failed}")
    return Part(f"SIGKILL in a sweep, {root.name}", f"{done} kills in {runs} sweeps", done, wrong)


def _at_once(root: Path, expected: dict[str, str]) -> Part:
    """Two equal sweeps over one folder of outputs."""
    root.mkdir()
    pair = [_started(root / "outputs", LAUNCHERS["joblib"]) for _ in range(2)]
    wrong = [failed for attempt in pair if (failed := attempt.end())]
    unlike = difference(expected, outcome(root / "outputs"))
    return Part("two equal sweeps at once", "both succeed", 1, [*wrong, *([unlike] if unlike else [])])


def _descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that these did, as /proc tells."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _works(pid: int) -> bool:
    """Whether a process does a job; joblib has another that cleans up behind them."""
    with contextlib.suppress(OSError):
        return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _wait_for(pids: Sequence[int], seconds: float = 120) -> None:
    """Wait until processes that outlive the one that started them have ended."""
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
