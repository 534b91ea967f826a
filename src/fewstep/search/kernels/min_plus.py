"""C[k, t] = min over s of C[k-1, s] + L(s, t) for all k at once, compiled for CPUs; exact in float64.

For all k together the recursion is a min-plus product whose left factor is its own result, one row up. It is taken
in blocks of indices t, and within them in tiles of the table that stay in the processor's cache for every k; four
rows of C and two of the tile are combined at a time in registers. The rows of C are dealt out to threads, each of
which follows one block behind the thread with the rows before its own.

No argmin is stored: where an optimal step comes from is found again, along the optimal paths alone, as the
smallest s whose sum equals C[k, t] to the last bit.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

WIDTH = 64  # grid indices per block
ROWS = 4  # rows of C that the innermost loops take together
MOST_GROUPS = 32  # most groups of ROWS rows that a thread takes in one sweep over the table
PATHS = 32  # fewest paths that are worth a thread's following back
NOT_ASCENDING = np.tri(WIDTH, dtype=bool)  # s >= t


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile for these types, at import, to run without Python's lock; sums keep their order and rounding."""
    # No wrapper for calls from C: it takes a third of the time to compile. numba's stubs do not know the option.
    return numba.njit(signature, nogil=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]


@dataclass(frozen=True)
class LeastCosts:
    """C[k, t] in blocks of t, stacked: block j holds t = j WIDTH + column, and its row first[j] + k is for k.

    A block has rows only for those k that can reach it: all k together need about half a table.
    """

    values: NDArray[np.float64]  # [rows, WIDTH]
    first: NDArray[np.int64]  # [blocks + 1]

    @classmethod
    def begin(cls, begun: NDArray[np.float64], most: int) -> "LeastCosts":
        """Row 0 is `begun`, +inf at index 0; rows 1 .. most are yet to be filled."""
        starts = np.arange(0, len(begun), WIDTH)
        reachable = np.minimum(starts + WIDTH, len(begun)) // ROWS + 1
        groups = np.minimum(-(-most // ROWS), reachable)
        first = np.concatenate([[0], np.cumsum(1 + ROWS * groups)]).astype(np.int64)
        values = np.empty((first[-1], WIDTH))
        padded = np.full(len(starts) * WIDTH, math.inf)
        padded[: len(begun)] = begun
        values[first[:-1]] = padded.reshape(-1, WIDTH)
        return cls(values, first)

    @property
    def blocks(self) -> int:
        return len(self.first) - 1

    def block(self, j: int) -> NDArray[np.float64]:
        """C[k, t] for t in block j, [rows, WIDTH]."""
        return self.values[self.first[j] : self.first[j + 1]]

    def at(self, rows: Sequence[int], index: int) -> list[float]:
        """C[k, index] for every k in `rows`."""
        block, column = divmod(index, WIDTH)
        return self.values[self.first[block] + np.asarray(rows), column].tolist()


def fill(costs: NDArray[np.float64], least: LeastCosts, threads: int) -> None:
    """Fill rows 1 and up of `least` from its row 0, on so many threads; costs[s, t] with s >= t are not used."""
    groups = int(np.diff(least.first).max() - 1) // ROWS
    share = min(MOST_GROUPS, -(-groups // threads)) or 1
    sweeps = -(-groups // share)
    done = [Semaphore(0) for _ in range(sweeps)]
    threads = max(1, min(threads, sweeps))
    tiles = np.empty((threads, WIDTH, WIDTH))

    def work(thread: int) -> None:
        for sweep in range(thread, sweeps, threads):
            for j in range(least.blocks):
                if sweep:
                    done[sweep - 1].acquire()
                _fill_block(costs, least, j, sweep * share, (sweep + 1) * share, tiles[thread])
                done[sweep].release()

    _spread(work, threads)


def _fill_block(
    costs: NDArray[np.float64], least: LeastCosts, j: int, begin: int, end: int, tile: NDArray[np.float64]
) -> None:
    """Fill the rows of groups begin .. end - 1 in block j, from complete earlier blocks and earlier rows."""
    block = least.block(j)
    end = min(end, len(block) // ROWS)
    block[begin * ROWS + 1 : end * ROWS + 1] = math.inf
    for i in range(j):
        before = least.block(i)
        reach = min(end, len(before) // ROWS)
        if begin < reach:
            _copy_tile(costs, i, j, tile)
            _lower_by_tile(before, block, tile, begin, reach)
    _copy_tile(costs, j, j, tile)
    _lower_within(block, tile, begin, end)


def _copy_tile(costs: NDArray[np.float64], i: int, j: int, tile: NDArray[np.float64]) -> None:
    """tile[s, t] = L(s, t) for s in block i and t in block j; +inf unless s < t."""
    part = costs[i * WIDTH : (i + 1) * WIDTH, j * WIDTH : (j + 1) * WIDTH]
    height, width = part.shape
    tile[:height, :width] = part
    tile[height:] = tile[:, width:] = math.inf
    if i == j:
        tile[NOT_ASCENDING] = math.inf


def follow_back(
    costs: NDArray[np.float64], least: LeastCosts, rows: Sequence[int], threads: int
) -> list[NDArray[np.int32]]:
    """For every k in `rows` the indices i_0 < ... < i_k = last that C[k, last] goes through; int32 [k+1] each.

    Of equal sums the smallest s is taken, from the last step to the first.
    """
    steps, last = np.array(rows, dtype=np.int64), len(costs) - 1
    ends = np.cumsum(steps + 1)
    visited = np.empty(ends[-1], dtype=np.int32)
    visited[ends - 1] = last
    threads = max(1, min(threads, len(steps) // PATHS))
    columns = np.empty((threads, least.blocks, WIDTH, WIDTH))

    def work(thread: int) -> None:
        left = steps[thread::threads].copy()  # every thread gets long paths and short ones
        node = np.full_like(left, last)
        begin = ends[thread::threads] - left - 1
        for j in reversed(range(least.blocks)):
            if ((node >= j * WIDTH) & (left > 0)).any():
                for i in range(j + 1):
                    _copy_tile(costs, i, j, columns[thread, i].T)
                _follow_back(least.values, least.first, columns[thread], j, node, left, begin, visited)

    _spread(work, threads)
    return np.split(visited, ends[:-1])


def _spread(work: Callable[[int], None], threads: int) -> None:
    if threads == 1:
        work(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(threads)):
            pass


@compiled("void(f8[:, ::1], f8[:, ::1], f8[:, ::1], i8, i8)")
def _lower_by_tile(before, after, tile, begin, end):  # type: ignore[no-untyped-def]
    """after[k+1, t] = min(after[k+1, t], min over s of before[k, s] + tile[s, t]), for groups begin .. end - 1."""
    for group in range(begin, end):
        k = group * ROWS
        for s in range(0, WIDTH, 2):
            a0, a1 = before[k, s], before[k, s + 1]
            b0, b1 = before[k + 1, s], before[k + 1, s + 1]
            c0, c1 = before[k + 2, s], before[k + 2, s + 1]
            d0, d1 = before[k + 3, s], before[k + 3, s + 1]
            for t in range(WIDTH):
                cost0, cost1 = tile[s, t], tile[s + 1, t]
                after[k + 1, t] = min(after[k + 1, t], min(a0 + cost0, a1 + cost1))
                after[k + 2, t] = min(after[k + 2, t], min(b0 + cost0, b1 + cost1))
                after[k + 3, t] = min(after[k + 3, t], min(c0 + cost0, c1 + cost1))
                after[k + 4, t] = min(after[k + 4, t], min(d0 + cost0, d1 + cost1))


@compiled("void(f8[:, ::1], f8[:, ::1], i8, i8)")
def _lower_within(block, tile, begin, end):  # type: ignore[no-untyped-def]
    """The steps that start in the block itself: a row is complete before the next one is lowered by it."""
    for k in range(begin * ROWS, end * ROWS):
        for s in range(0, WIDTH, 4):
            a, b, c, d = block[k, s], block[k, s + 1], block[k, s + 2], block[k, s + 3]
            for t in range(WIDTH):
                early = min(a + tile[s, t], b + tile[s + 1, t])
                late = min(c + tile[s + 2, t], d + tile[s + 3, t])
                block[k + 1, t] = min(block[k + 1, t], min(early, late))


@compiled("void(f8[:, ::1], i8[::1], f8[:, :, ::1], i8, i8[::1], i8[::1], i8[::1], i4[::1])")
def _follow_back(values, first, columns, j, node, left, begin, visited):  # type: ignore[no-untyped-def]
    """Take the steps back that arrive in block j: to the smallest s with C[k-1, s] + L(s, t) = C[k, t]."""
    for path in range(len(node)):
        while left[path] > 0 and node[path] >= j * WIDTH:
            t, k = node[path] - j * WIDTH, left[path]
            least = values[first[j] + k, t]
            source, i = -1, (k - 1) // WIDTH
            while source < 0 and i <= j:
                row = first[i] + k - 1
                matches = 0
                for s in range(WIDTH):
                    matches += values[row, s] + columns[i, t, s] == least
                if matches:
                    for s in range(WIDTH - 1, -1, -1):
                        if values[row, s] + columns[i, t, s] == least:
                            source = i * WIDTH + s
                i += 1
            node[path], left[path] = source, k - 1
            visited[begin[path] + k - 1] = source
