"""Differences between measured numbers, with the standard error that is known of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student_t

from fewstep.report.estimates import Estimate, combined_error
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM, paired_difference
from fewstep.report.printing import BITS_DECIMALS, number, signed
from fewstep.report.tables import Cell

ERRORS_FOR_A_CLAIM = 2


class Difference(NamedTuple):
    """a − b, its standard error (None: unknown), and the paired seeds behind it (None: it is paired otherwise)."""

    mean: float
    error: float | None
    seeds: int | None = None

    @property
    def is_claim(self) -> bool:
        """Beyond twice its standard error, on enough paired seeds where it rests on seeds."""
        if self.error is None or (self.seeds is not None and self.seeds < PAIRED_SEEDS_FOR_A_CLAIM):
            return False
        return abs(self.mean) > ERRORS_FOR_A_CLAIM * self.error

    def text(self, decimals: int = BITS_DECIMALS) -> str:
        """`−0.012 ± 0.004`."""
        plus_minus = "" if self.error is None or math.isinf(self.error) else f" ± {number(self.error, decimals)}"
        return f"{signed(self.mean, decimals)}{plus_minus}"

    def cell(self, decimals: int = BITS_DECIMALS) -> Cell:
        """A cell of a table, bold where it is a claim."""
        return Cell(self.text(decimals), bold=self.is_claim)


def bits_difference(a: Estimate, b: Estimate, above: Sequence[Estimate | None] = ()) -> Difference | None:
    """a − b in bits/dim; None where both are infinite.

    Args:
        a: bits/dim of a schedule.
        b: bits/dim of another, on the same images.
        above: what is known, paired over images, of a − c and b − c for a common c. By the triangle inequality the
            standard error of a − b is at most the sum of theirs; without them it is taken as if a and b were
            independent, which for rows that share their images is too large.
    """
    mean = a.mean - b.mean
    if math.isnan(mean):
        return None
    bounds = [error for error in [combined_error(a, b)] if error is not None]
    paired = [estimate.standard_error for estimate in above if estimate is not None]
    known = [error for error in paired if error is not None]
    if above and len(known) == len(above):
        bounds.append(math.fsum(known))
    return Difference(mean, min(bounds, default=None))


def seeds_difference(a: Estimate, b: Estimate) -> Difference:
    """a − b of two Fréchet distances, paired by sampling seeds.

    Raises:
        ValueError: they share no seeds.
    """
    paired = paired_difference(a, b)
    return Difference(paired.mean, paired.standard_error, paired.seeds)


def few_seeds(differences: Sequence[Difference]) -> str | None:
    """The sentence that says why nothing may be claimed: too few paired seeds everywhere; else None."""
    most = max(difference.seeds or 0 for difference in differences)
    if most >= PAIRED_SEEDS_FOR_A_CLAIM:
        return None
    return f"With at most {most} paired seeds, where a claim needs {PAIRED_SEEDS_FOR_A_CLAIM}, nothing is claimed."


def seeds_error(estimate: Estimate) -> float | None:
    """The standard error of a mean over its seeds; of one seed its own."""
    values = list(estimate.values.values())
    if len(values) < 2:
        return estimate.standard_error
    mean = estimate.mean
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def chance(seeds: int) -> float:
    """How often a difference that is zero lies beyond twice its standard error over some seeds."""
    return float(2 * student_t.sf(ERRORS_FOR_A_CLAIM, seeds - 1))
