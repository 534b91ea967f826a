"""The smallest K near the full grid, against totals of every K by a plain recursion."""

import math

import numpy as np
import pytest
import torch

from fewstep import steps_within
from fewstep.costs import CostTable
from fewstep.errors import UserError


def table(M: int, seed: int, dimensions: int | None = 3) -> CostTable:
    """Costs that fall with the number of steps: (t − s)² times a random weight of t."""
    times = torch.linspace(0, 1, M + 1, dtype=torch.float64)
    weight = 1 + torch.rand(M + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    length = times - times[:, None]
    return CostTable(
        times, (100 * length.square() * weight).masked_fill(length <= 0, math.inf), "nats", None, dimensions
    )


def least_totals(costs: np.ndarray) -> np.ndarray:
    """The least total of K = 0 … M steps."""
    M = len(costs) - 1
    least = np.full((M + 1, M + 1), np.inf)
    least[0, 0] = 0
    for K in range(1, M + 1):
        for t in range(1, M + 1):
            least[K, t] = min(least[K - 1, s] + costs[s, t] for s in range(t))
    return least[:, M]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3, 1.0, 100.0])
def test_it_is_the_first_total_within(seed: int, tolerance: float) -> None:
    costs = table(90, seed)
    totals = least_totals(costs.costs.numpy())
    allowed = totals[90] + tolerance * 3 * math.log(2)
    assert steps_within(costs, tolerance) == next(K for K in range(1, 91) if totals[K] <= allowed + 1e-12)


def test_first_pairs_count(grey_images) -> None:
    """Where the first two steps are charged together, one step is none of the choices."""
    costs = table(12, 0)
    n = torch.arange(13)
    pairs = costs.costs[0][:, None] + costs.costs
    pairs = pairs.masked_fill((n[:, None] < 1) | (n[:, None] >= n), math.inf)
    paired = CostTable(costs.times, costs.costs, "nats", pairs, 3)
    for tolerance in (0.0, 0.5, 2.0):
        assert steps_within(paired, tolerance) == max(2, steps_within(costs, tolerance))


def test_what_cannot_be_asked() -> None:
    with pytest.raises(UserError, match="without dimensions"):
        steps_within(table(5, 0, None))
    with pytest.raises(UserError, match="at least 0"):
        steps_within(table(5, 0), -0.1)
