"""How fast is `optimal_paths`, cold and warm, and how much memory does it take? Against the paper's in NumPy.

    python benchmarks/optimal_paths.py

Two threads; every K up to 256, paths included on all sides. The NumPy versions are Algorithm 1 of Watson et al.
2021 vectorised over s and t, one k after the other, argmin stored, with the backtracking begun at t = T: once on
the table as it is stored, costs[s, t], and once on a transposed copy made beforehand, whose minima run over
neighbouring numbers. `warm` is the best of five calls, NumPy's time is that of one. Tables: `random`, uniform; and
`posterior`, ½ (SNR(s) − SNR(t)) e(t) with e(t) rising, which satisfies the quadrangle inequality: its row tells
what divide and conquer wins.

`cold` is the first call in a process that has only imported the package and made the table; it compiles. Memory is
measured in a process of its own too, after a small call that loads the library: the peak resident size (VmHWM;
Linux) less the resident size before the table is made, over the table's bytes. It covers the table, the search and
the returned lists.

Exits with status 1 if, at T = 4000 and K <= 256, `optimal_paths` is less than 25 times as fast as either NumPy
version, takes more than twice the table's memory, or takes 2 s more the first time than later, or if a total
differs anywhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fewstep.costs import CostTable
from fewstep.search.dp import optimal_paths

MOST_STEPS = 256
THREADS = 2
LEAST_SPEEDUP = 25.0
MOST_MEMORY = 2.0
MOST_COLD_SECONDS = 2.0


def random_table(size: int) -> torch.Tensor:
    """costs[s, t] uniform on [0, 1) for s < t, else +inf; filled in place, so that nothing else is allocated."""
    generator = torch.Generator().manual_seed(0)
    costs = torch.empty((size, size), dtype=torch.float64)
    for s, row in enumerate(costs):
        row[: s + 1] = torch.inf
        row[s + 1 :].uniform_(generator=generator)
    return costs


def posterior_table(size: int) -> torch.Tensor:
    """½ (SNR(s) − SNR(t)) e(t) with SNR falling and e rising by random amounts, a random row 0."""
    falls, rises, decoder = torch.rand((3, size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    snr, error = falls.cumsum(0).flip(0), rises.cumsum(0)
    costs = 0.5 * (snr[:, None] - snr) * error
    costs[0] = decoder * size
    return costs.masked_fill_(torch.ones(size, size, dtype=torch.bool).tril(), torch.inf)


TABLES = {"random": random_table, "posterior": posterior_table}


def paths_by_numpy(costs: np.ndarray, most: int, axis: int) -> dict[int, list[int]]:
    """The paper's algorithm; `axis` is the one along which s runs."""
    size = len(costs)
    least = np.full(size, np.inf)
    least[0] = 0.0
    best = np.zeros((most + 1, size), dtype=np.int64)
    for k in range(1, most + 1):
        sums = np.expand_dims(least, 1 - axis) + costs
        best[k] = sums.argmin(axis=axis)
        least = np.take_along_axis(sums, np.expand_dims(best[k], axis), axis).squeeze(axis)
    paths = {}
    for steps in range(1, most + 1):
        t, path = size - 1, [size - 1]
        for k in range(steps, 0, -1):
            t = int(best[k, t])
            path.append(t)
        paths[steps] = path[::-1]
    return paths


def timed(search: Callable[[], dict[int, list[int]]], calls: int = 1) -> tuple[float, dict[int, list[int]]]:
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        paths = search()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), paths


def compare(last: int, name: str) -> tuple[bool, float]:
    """Print a row; whether all totals agree, and the speedup over the faster of the NumPy versions."""
    cold = in_process("cold", last, MOST_STEPS, name)[0]
    costs = TABLES[name](last + 1)
    table = CostTable(torch.arange(last + 1, dtype=torch.float64), costs, "nats/example")
    steps = range(1, MOST_STEPS + 1)
    optimal_paths(costs, steps)
    warm, paths = timed(lambda: optimal_paths(costs, steps), calls=5)
    stored, stored_paths = timed(lambda: paths_by_numpy(costs.numpy(), MOST_STEPS, axis=0))
    transposed = np.ascontiguousarray(costs.numpy().T)
    contiguous, contiguous_paths = timed(lambda: paths_by_numpy(transposed, MOST_STEPS, axis=1))
    equal = all(
        table.total(paths[k]) == table.total(stored_paths[k]) == table.total(contiguous_paths[k]) for k in steps
    )
    print(
        f"{last:>5} {name:>10} {cold:>7.2f} {warm:>7.3f} {stored:>8.2f} {stored / warm:>6.0f} {contiguous:>11.2f} "
        f"{contiguous / warm:>6.0f} {'equal' if equal else 'DIFFER':>7}",
        flush=True,
    )
    return equal, min(stored, contiguous) / warm


def resident_bytes(which: str) -> int:
    """Resident size of this process (Linux): VmRSS now, VmHWM at its peak."""
    line = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None
    return int(line[1]) * 1024


def print_peak(last: int, most: int, name: str) -> None:
    """In a process of its own: print the peak memory as a multiple of the table's, and the seconds taken."""
    optimal_paths(random_table(300), range(1, 100))
    before = resident_bytes("VmRSS")
    costs = TABLES[name](last + 1)
    seconds, _paths = timed(lambda: optimal_paths(costs, range(1, most + 1)))
    print((resident_bytes("VmHWM") - before) / costs.nbytes, seconds)


def print_cold(last: int, most: int, name: str) -> None:
    """In a process of its own: print the seconds of the first call, and of the fastest of three later ones."""
    costs = TABLES[name](last + 1)
    first, _paths = timed(lambda: optimal_paths(costs, range(1, most + 1)))
    later, _paths = timed(lambda: optimal_paths(costs, range(1, most + 1)), calls=3)
    print(first, later)


def in_process(what: str, last: int, most: int, name: str) -> list[float]:
    command = [sys.executable, __file__, what, str(last), str(most), name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in answer.split()]


def main() -> int:
    print(f"{THREADS} threads; seconds for every K <= {MOST_STEPS}; ratio: NumPy's over warm")
    print(
        f"{'T':>5} {'table':>10} {'cold':>7} {'warm':>7} {'NumPy':>8} {'ratio':>6} {'transposed':>11} {'ratio':>6}"
    )
    results = [compare(last, name) for name in TABLES for last in (1000, 4000)]
    equal, speedup = all(equal for equal, _ in results), results[1][1]
    print("\npeak memory in multiples of the table's, in a process of its own")
    print(f"{'T':>5} {'K <=':>6} {'memory':>7} {'seconds':>8}")
    multiples = []
    for last, most in ((1000, MOST_STEPS), (4000, MOST_STEPS), (4000, 4000)):
        multiple, seconds = in_process("peak", last, most, "random")
        multiples.append(multiple)
        print(f"{last:>5} {most:>6} {multiple:>7.2f} {seconds:>8.2f}", flush=True)
    first, later = in_process("cold", 4000, MOST_STEPS, "random")
    print(f"\nfirst call {first:.2f} s, later {later:.3f} s: the first takes {first - later:.2f} s more")
    passed = (
        equal and speedup >= LEAST_SPEEDUP and multiples[1] <= MOST_MEMORY and first - later <= MOST_COLD_SECONDS
    )
    print(
        f"{'passed' if passed else 'FAILED'}: at T = 4000, K <= {MOST_STEPS}, at least {LEAST_SPEEDUP:g} times as "
        f"fast as NumPy, at most {MOST_MEMORY:g} tables of memory, the first call at most {MOST_COLD_SECONDS:g} s "
        f"slower, all totals equal"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    if len(sys.argv) == 5:
        run = {"peak": print_peak, "cold": print_cold}[sys.argv[1]]
        run(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(main())
