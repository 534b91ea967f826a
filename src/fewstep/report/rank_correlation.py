"""Whether an objective ranks schedules as their measured quality does: Spearman's rho and how sure it is."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fewstep.report.estimates import Estimate

LEAST_SCHEDULES = 3
EXACT_UP_TO = 12
PERMUTATIONS = 100_000
RESAMPLES = 2_000
_TOLERANCE = 1e-9

Array = NDArray[np.float64]


class RankCorrelation(NamedTuple):
    """Spearman's rho between an objective and a distance over the schedules of one K, both lower-is-better.

    Attributes:
        rho: 1 where the objective ranks the schedules as the distance does, −1 where it reverses them.
        low: 2.5 % quantile of rho over resampled seeds; NaN with fewer than two seeds.
        high: 97.5 % quantile.
        p_value: how often a random order of the schedules gives a |rho| at least this large.
        schedules: how many schedules are ranked.
        seeds: how many independent seeds were resampled.
    """

    rho: float
    low: float
    high: float
    p_value: float
    schedules: int
    seeds: int

    @property
    def disagrees(self) -> bool:
        """Whether the two order the schedules oppositely, whichever seeds are drawn: the interval is below 0."""
        return self.high < 0


def rank_correlation(
    objective: Mapping[str, Estimate], distance: Mapping[str, Estimate]
) -> RankCorrelation | None:
    """Spearman's rho over the schedules (the keys) that both hold, of means over their seeds.

    The interval resamples the seeds with replacement, all schedules with the same draw because they share their
    noise; whichever of training and sampling seeds has more distinct values is the unit, as in a paired
    difference. It says how far rho follows from the seeds, and with few of them it is too narrow. The p-value
    asks the other question, whether so few schedules could line up by chance; it is exact up to 12 schedules and
    from 100,000 random orders beyond. Tied values share their mean rank.

    Returns None for fewer than 3 shared schedules or seeds, or where all values of one side are tied.
    """
    shared = [name for name in objective if name in distance]
    seeds = sorted(
        set.intersection(*(set(distance[name].values) for name in shared)) if shared else (), key=_ordered
    )
    if len(shared) < LEAST_SCHEDULES or not seeds:
        return None
    unit = max((0, 1), key=lambda position: len({pair[position] for pair in seeds}))
    units = list(dict.fromkeys(pair[unit] for pair in seeds))
    distances = np.array([[_mean_of(distance[name], unit, of, seeds) for of in units] for name in shared])
    objectives = np.array([[_mean_of(objective[name], unit, of, None) for of in units] for name in shared])
    even = np.full((1, len(units)), 1 / len(units))
    rho = float(_rho(even @ objectives.T, even @ distances.T)[0])
    if math.isnan(rho):
        return None
    low, high = _interval(objectives, distances)
    x, y = (rankdata(values.mean(axis=1)) for values in (objectives, distances))
    return RankCorrelation(rho, low, high, _p_value(x, y), len(shared), len(units))


def _ordered(pair: tuple[int | None, int | None]) -> tuple[int, ...]:
    return tuple(-1 if seed is None else seed for seed in pair)


def _mean_of(
    estimate: Estimate,
    unit: int,
    of: int | None,
    seeds: list[tuple[int | None, int | None]] | None,
) -> float:
    """Mean of an estimate over the pairs of one unit seed; over all pairs where it has no value for that seed."""
    known = estimate.values if seeds is None else {pair: estimate.values[pair] for pair in seeds}
    values = [value for pair, value in known.items() if pair[unit] == of] or list(known.values())
    return math.fsum(values) / len(values)


def _rho(x: Array, y: Array) -> Array:
    """Spearman's rho of every row, [rows, schedules] each; NaN where a row is all ties."""
    x, y = rankdata(x, axis=1), rankdata(y, axis=1)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Array = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return rho


def _interval(objectives: Array, distances: Array) -> tuple[float, float]:
    """The middle 95 % of rho over resampled columns (seeds), the same draw for every schedule and both sides."""
    n = objectives.shape[1]
    if n < 2:
        return math.nan, math.nan
    weights = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=RESAMPLES) / n
    found = _rho(weights @ objectives.T, weights @ distances.T)
    low, high = np.quantile(found[~np.isnan(found)], [0.025, 0.975])
    return float(low), float(high)


def _p_value(x: Array, y: Array) -> float:
    """Two-sided share of the orders of `y`, ranks like `x`, with |rho| at least that of the order given."""
    centre = x.sum() * y.sum() / len(x)
    reached = abs(float(x @ y) - centre) - _TOLERANCE
    if len(x) <= EXACT_UP_TO:
        products, counts = _orders(x, y)
        return float(counts[np.abs(products - centre) >= reached].sum() / counts.sum())
    generator = np.random.default_rng(0)
    found = generator.permuted(np.tile(y, (PERMUTATIONS, 1)), axis=1) @ x
    return float((1 + (np.abs(found - centre) >= reached).sum()) / (1 + PERMUTATIONS))


def _orders(x: Array, y: Array) -> tuple[Array, Array]:
    """Every value that Σ x_i y_π(i) takes, and how many orders π have it: a programme over subsets of `y`.

    Ranks are whole or half numbers, so four times the sum is a whole one.
    """
    n = len(x)
    doubled_x, doubled_y = (np.rint(2 * ranks).astype(int) for ranks in (x, y))
    top = int(np.sort(doubled_x) @ np.sort(doubled_y))
    counts = np.zeros((2**n, top + 1))
    counts[0, 0] = 1
    for taken in range(2**n - 1):
        i = taken.bit_count()
        for j in range(n):
            if not taken >> j & 1:
                product = int(doubled_x[i] * doubled_y[j])
                counts[taken | 1 << j, product:] += counts[taken, : top + 1 - product]
    return np.arange(top + 1) / 4, counts[-1]
