"""Paired comparison: two rows measured with the same seeds, so with the same noise."""

import math
from typing import NamedTuple

from scipy.stats import t as student_t

from fewstep.report.estimates import Estimate

PAIRED_SEEDS_FOR_A_CLAIM = 5


class PairedDifference(NamedTuple):
    """Mean of a − b over the seeds that both have, and half the width of its 95 % Student interval.

    `seeds` counts independent repetitions; with fewer than two the half-width is infinite.
    """

    mean: float
    half_width: float
    seeds: int

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the seeds; infinite with fewer than two."""
        if self.seeds < 2:
            return math.inf
        return self.half_width / float(student_t.ppf(0.975, self.seeds - 1))

    @property
    def is_claim(self) -> bool:
        """Whether one row may be called better than the other: enough paired seeds, zero outside the interval."""
        return self.seeds >= PAIRED_SEEDS_FOR_A_CLAIM and abs(self.mean) > self.half_width


def paired_difference(a: Estimate, b: Estimate) -> PairedDifference:
    """The difference a − b, paired by seeds.

    Seeds come as (training, sampling) pairs, and pairs that share a seed are not independent, so whichever of
    the two has more distinct values is the unit, and the differences of one unit are averaged first.

    Raises:
        ValueError: a and b share no seeds.
    """
    differences = {seeds: value - b.values[seeds] for seeds, value in a.values.items() if seeds in b.values}
    if not differences:
        raise ValueError("The two estimates share no seeds; a paired difference needs at least one.")
    position = max((0, 1), key=lambda i: len({seeds[i] for seeds in differences}))
    units: dict[int | None, list[float]] = {}
    for seeds, difference in differences.items():
        units.setdefault(seeds[position], []).append(difference)
    means = [math.fsum(unit) / len(unit) for unit in units.values()]
    n = len(means)
    mean = math.fsum(means) / n
    if n < 2:
        return PairedDifference(mean, math.inf, n)
    variance = math.fsum((value - mean) ** 2 for value in means) / (n - 1)
    return PairedDifference(mean, float(student_t.ppf(0.975, n - 1)) * math.sqrt(variance / n), n)
