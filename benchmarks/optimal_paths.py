"""How fast is `optimal_paths`, and how much memory does it take? Against the paper's algorithm in NumPy.

    python benchmarks/optimal_paths.py

Random tables, every K up to 256, paths included on both sides. The NumPy versions are Algorithm 1 of Watson et
al. 2021 vectorised over s and t, one k after the other, argmin stored, with the backtracking begun at t = T:
once on the table as it is stored, costs[s, t], and once on a transposed copy made beforehand, whose minima run
over neighbouring numbers. `optimal_paths` is timed as the best of three calls, NumPy by one.

Memory is measured in a process of its own, after a small call that loads the library: the peak resident size
(VmHWM; Linux) less the resident size before the table is made, over the table's bytes. It covers the table, the
search and the returned lists.

Exits with status 1 if, at T = 4000 and K <= 256, `optimal_paths` is less than 10 times as fast as NumPy on the
table as it is stored or takes more than twice the table's memory, or if a total differs anywhere.
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
LEAST_SPEEDUP = 10.0
MOST_MEMORY = 2.0


def random_table(size: int) -> torch.Tensor:
    """costs[s, t] uniform on [0, 1) for s < t, else +inf; filled in place, so that nothing else is allocated."""
    generator = torch.Generator().manual_seed(0)
    costs = torch.empty((size, size), dtype=torch.float64)
    for s, row in enumerate(costs):
        row[: s + 1] = torch.inf
        row[s + 1 :].uniform_(generator=generator)
    return costs


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


def compare(last: int) -> tuple[bool, float]:
    """Print the row of T = last; whether all totals agree, and the speedup over NumPy on the table as stored."""
    costs = random_table(last + 1)
    table = CostTable(torch.arange(last + 1, dtype=torch.float64), costs, "nats/example")
    steps = range(1, MOST_STEPS + 1)
    seconds, paths = timed(lambda: optimal_paths(costs, steps), calls=3)
    stored, stored_paths = timed(lambda: paths_by_numpy(costs.numpy(), MOST_STEPS, axis=0))
    transposed = np.ascontiguousarray(costs.numpy().T)
    contiguous, contiguous_paths = timed(lambda: paths_by_numpy(transposed, MOST_STEPS, axis=1))
    equal = all(
        table.total(paths[k]) == table.total(stored_paths[k]) == table.total(contiguous_paths[k]) for k in steps
    )
    print(
        f"{last:>6} {seconds:>14.3f} {stored:>12.2f} {stored / seconds:>8.1f} {contiguous:>16.2f} "
        f"{contiguous / seconds:>8.1f} {'equal' if equal else 'DIFFER':>8}"
    )
    return equal, stored / seconds


def resident_bytes(which: str) -> int:
    """Resident size of this process (Linux): VmRSS now, VmHWM at its peak."""
    line = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line is not None
    return int(line[1]) * 1024


def print_peak(last: int, most: int) -> None:
    """In a process of its own: print the peak memory as a multiple of the table's, and the seconds taken."""
    optimal_paths(random_table(300), range(1, 100))
    before = resident_bytes("VmRSS")
    costs = random_table(last + 1)
    seconds, _paths = timed(lambda: optimal_paths(costs, range(1, most + 1)))
    print((resident_bytes("VmHWM") - before) / costs.nbytes, seconds)


def peak(last: int, most: int) -> float:
    """Print the row of memory for T = last and every K up to `most`; the multiple of the table's."""
    command = [sys.executable, __file__, str(last), str(most), str(torch.get_num_threads())]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    multiple, seconds = (float(number) for number in answer.split())
    print(f"{last:>6} {most:>6} {multiple:>14.2f} {seconds:>12.2f}")
    return multiple


def main() -> int:
    print(f"{torch.get_num_threads()} threads; seconds for every K <= {MOST_STEPS}; ratio: NumPy's over ours")
    columns = f"{'optimal_paths':>14} {'NumPy':>12} {'ratio':>8} {'NumPy transposed':>16} {'ratio':>8}"
    print(f"{'T':>6} {columns} {'totals':>8}")
    results = [compare(last) for last in (1000, 4000)]
    print("\npeak memory in multiples of the table's, in a process of its own")
    print(f"{'T':>6} {'K <=':>6} {'memory':>14} {'seconds':>12}")
    multiples = [peak(last, most) for last, most in ((1000, MOST_STEPS), (4000, MOST_STEPS), (4000, 4000))]
    equal = all(equal for equal, _ in results)
    passed = equal and results[-1][1] >= LEAST_SPEEDUP and multiples[1] <= MOST_MEMORY
    print(
        f"\n{'passed' if passed else 'FAILED'}: at T = 4000, K <= {MOST_STEPS}, at least {LEAST_SPEEDUP:g} times "
        f"as fast as NumPy, at most {MOST_MEMORY:g} tables of memory, all totals equal"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    if len(sys.argv) == 4:
        torch.set_num_threads(int(sys.argv[3]))
        print_peak(int(sys.argv[1]), int(sys.argv[2]))
    else:
        sys.exit(main())
