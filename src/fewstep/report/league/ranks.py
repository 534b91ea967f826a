"""Ranks with their uncertainty: who is ahead of whom beyond chance, and which places that leaves open."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy.stats import norm
from scipy.stats import t as student_t

from fewstep.report.differences import Difference

LEVEL = 0.05


class Rank(NamedTuple):
    """The places that a contender may have, 1 being the lowest value; more than one where it ties."""

    best: int
    worst: int

    @property
    def text(self) -> str:
        """`2`, or `2–4`."""
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"

    @property
    def middle(self) -> float:
        """For an order of contenders."""
        return (self.best + self.worst) / 2


def ranks(names: Sequence[str], difference: Callable[[str, str], Difference | None]) -> dict[str, Rank]:
    """The places of contenders whose lower value is better.

    Every pair is compared by its paired difference, with Holm's correction for the number of pairs, so that with
    95 % probability all of the sets of places hold at once: a contender stands behind those that are below it and
    before those that are above it. Pairs that cannot be told apart tie.

    Args:
        names: the contenders.
        difference: of a and b, the value of a minus that of b; None where nothing is known of it.
    """
    pairs = {pair: difference(*pair) for pair in itertools.combinations(names, 2)}
    tested = {pair: found for pair, found in pairs.items() if found is not None}
    certain = _rejected({pair: p_value(found) for pair, found in tested.items()})
    below = [(a, b) if tested[a, b].mean < 0 else (b, a) for a, b in certain]
    return {
        name: Rank(
            1 + sum(behind == name for _, behind in below), len(names) - sum(ahead == name for ahead, _ in below)
        )
        for name in names
    }


def p_value(difference: Difference) -> float:
    """Two-sided: how often a difference of nothing comes out at least as large.

    Student's t over paired seeds, the normal distribution over images. 1 where its error is unknown.
    """
    mean, error = difference.mean, difference.error
    if error is None or math.isinf(error) or math.isnan(mean) or mean == 0:
        return 1.0
    if error == 0 or math.isinf(mean):
        return 0.0
    ratio = abs(mean) / error
    return float(2 * (norm.sf(ratio) if difference.seeds is None else student_t.sf(ratio, difference.seeds - 1)))


def half_width(difference: Difference) -> float | None:
    """Of the 95 % interval of a difference; None where its error is unknown."""
    error = difference.error
    if error is None or math.isinf(error) or math.isnan(error):
        return None
    upper, seeds = 1 - LEVEL / 2, difference.seeds
    return float(error * (norm.ppf(upper) if seeds is None else student_t.ppf(upper, seeds - 1)))


def _rejected(p_values: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
    """Holm 1979: the pairs that differ, wrong in any of them at most 5 % of the time."""
    ordered = sorted(p_values, key=lambda pair: p_values[pair])
    tests = len(ordered)
    kept = itertools.takewhile(lambda place: p_values[ordered[place]] <= LEVEL / (tests - place), range(tests))
    return [ordered[place] for place in kept]
