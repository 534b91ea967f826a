"""A descent that moves one node of a schedule at a time, along the log-SNR and from large moves to small."""

import math
from collections.abc import Callable, Sequence

from fewstep.process import Process
from fewstep.search.base import LARGEST_NOISE_LEVEL

FIRST, LARGEST = 0.25, 0.5  # of the distance to the next node
GROWTH, SHRINKAGE = 2.0, 0.5


class Valued:
    """Values of paths on the grid, each evaluated once; +∞ when `most` have been, so that no move gains any more.

    Args:
        value: the value of the schedule through grid indices 0 = i_0 < … < i_K = T, the lower the better.
        most: evaluations.

    Attributes:
        known: path → value, in the order of evaluation.
        exhausted: whether a value was asked for that was not evaluated.
    """

    def __init__(self, value: Callable[[Sequence[int]], float], most: int) -> None:
        self.value, self.most = value, most
        self.known: dict[tuple[int, ...], float] = {}
        self.exhausted = False

    def __call__(self, path: Sequence[int]) -> float:
        key = tuple(path)
        if key not in self.known:
            if len(self.known) == self.most:
                self.exhausted = True
                return math.inf
            self.known[key] = self.value(path)
        return self.known[key]


class NodeMoves:
    """Single nodes move on the grid of a process; the ends 0 and T stay.

    A node tries a place on either side, some share of the way to the next node in log-SNR and at least one grid
    index away, and the lowest point of the parabola through the three values, where it has one. It goes to the
    best of them. The next time its share doubles, at most to a half, where one of the two places was best, and
    halves otherwise. So moves go from large to small, each node's by what it gained.
    """

    def __init__(self, process: Process) -> None:
        log_snr = process.log_snr(process.grid)
        log_snr[0] = log_snr[1]  # no node goes below the first timestep
        # Nor is one spent far above where rules end: the last cell of a cosine process is as long as all others.
        log_snr[-1] = log_snr[-1].clamp(min=-2 * math.log(LARGEST_NOISE_LEVEL)).clamp(max=log_snr[-2])
        self.log_snr = log_snr

    def descend(self, start: Sequence[int], value: Valued) -> list[int]:
        """The path from which no node gains by a move to a neighbouring index, or where the evaluations ended."""
        path = list(start)
        share = [FIRST] * len(path)
        while True:
            settled = True
            for i in range(len(path) - 2, 0, -1):
                places = self._places(path, i, share[i])
                near = all(abs(n - path[i]) == 1 for n in places)
                best = self._best(path, i, places, value)
                settled = settled and near and best == path[i]
                gained = best in places
                share[i] = min(share[i] * GROWTH, LARGEST) if gained else share[i] * SHRINKAGE
                path[i] = best
            if settled or value.exhausted:
                return path

    def _places(self, path: Sequence[int], i: int, share: float) -> list[int]:
        """Grid indices below and above node i, as far as there are any between its neighbours."""
        n, places = path[i], []
        for neighbour, single in ((path[i - 1], n - 1), (path[i + 1], n + 1)):
            if single != neighbour:
                aim = self.log_snr[n].lerp(self.log_snr[neighbour], share).item()
                nearest = self._nearest(aim, path[i - 1] + 1, path[i + 1] - 1)
                places.append(single if nearest == n else nearest)
        return places

    def _best(self, path: Sequence[int], i: int, places: Sequence[int], value: Valued) -> int:
        """Where node i is best: here, at one of the places, or between them; a tie keeps it."""

        def at(n: int) -> float:
            return value([*path[:i], n, *path[i + 1 :]])

        tried = [path[i], *places]
        values = [at(n) for n in tried]
        if len(tried) == 3 and all(map(math.isfinite, values)):
            lowest = _lowest(self.log_snr[tried].tolist(), values)
            if lowest is not None:
                between = self._nearest(lowest, path[i - 1] + 1, path[i + 1] - 1)
                tried, values = [*tried, between], [*values, at(between)]
        return tried[values.index(min(values))]

    def _nearest(self, log_snr: float, first: int, last: int) -> int:
        """The grid index of first … last whose log-SNR is nearest."""
        return first + int((self.log_snr[first : last + 1] - log_snr).abs().argmin())


def _lowest(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Where the parabola through three points is lowest; None where it opens downwards."""
    slope_1 = (y[1] - y[0]) / (x[1] - x[0])
    slope_2 = (y[2] - y[0]) / (x[2] - x[0])
    curvature = (slope_2 - slope_1) / (x[2] - x[1])
    if not curvature > 0:
        return None
    return x[0] + (x[1] - x[0]) / 2 - slope_1 / (2 * curvature)
