"""Seconds per job of a sweep before it does anything: its configuration composed and checked.

    python benchmarks/sweep_composition.py

`fewstep jobs -m` over 50, 100 and 200 jobs, in one process; a list of one job before them pays for imports. Exits
non-zero above the seconds per job that the project promises, or where they grow with the number of jobs.
"""

import argparse
import contextlib
import io
import sys
import time

from fewstep.__main__ import main as fewstep

PROMISED = 0.3  # seconds per job
GROWTH = 1.5  # seconds per job of the most jobs over those of the fewest: 1 is linear


def listed(jobs: int) -> tuple[float, float]:
    """Wall and CPU seconds of listing a sweep of so many jobs."""
    sys.argv[1:] = ["jobs", "-m", f"seed=range({jobs})", "schedule_optimizer=even"]
    printed = io.StringIO()
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(printed):
        fewstep()
    took = time.perf_counter() - wall, time.process_time() - cpu
    assert printed.getvalue().endswith(f"{jobs} job{'s' if jobs > 1 else ''}; nothing was run.\n")
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[50, 100, 200])
    numbers = parser.parse_args().jobs
    first = listed(1)[0]
    print(f"the first job, with imports: {first:.1f} s")
    print(f"{'jobs':>5}{'s':>8}{'s/job':>8}{'CPU s/job':>11}")
    per_job = []
    for jobs in numbers:
        wall, cpu = listed(jobs)
        per_job.append(wall / jobs)
        print(f"{jobs:5d}{wall:8.1f}{wall / jobs:8.3f}{cpu / jobs:11.3f}", flush=True)
    if max(per_job) > PROMISED:
        raise SystemExit(f"above the promised {PROMISED} s per job")
    if per_job[-1] > GROWTH * per_job[0]:
        raise SystemExit("seconds per job grow with their number")


if __name__ == "__main__":
    main()
