"""The question that users have: how many steps does this model need?"""

import math

from fewstep.costs import CostTable
from fewstep.errors import UserError
from fewstep.search.dp import optimal_paths, optimal_paths_from_pairs

AT_ONCE = 64  # numbers of steps searched before more are


def steps_within(costs: CostTable, bits_per_dim: float = 0.1) -> int:
    """The smallest K whose optimal schedule costs at most `bits_per_dim` more than the full grid.

    Args:
        costs: an objective's table in nats/example that knows its `dimensions`, such as the ELBO's.
        bits_per_dim: how much may be lost, at least 0.

    Raises:
        UserError: a table without dimensions, a negative or NaN tolerance, or a full grid of infinite cost.
    """
    if costs.dimensions is None:
        raise UserError(f"The table is in {costs.unit} without dimensions, so nothing can be said in bits/dim.")
    if not bits_per_dim >= 0:
        raise UserError(f"bits_per_dim is {bits_per_dim!r}; a loss against the full grid is at least 0.")
    T = len(costs.times) - 1
    full = costs.total(range(T + 1))
    if not math.isfinite(full):
        raise UserError("The full grid has an infinite cost: one of its steps is forbidden.")
    allowed = full + bits_per_dim * costs.dimensions * math.log(2)
    fewest, most = 1 if costs.first_pairs is None else 2, 0
    while most < T:
        fewest, most = max(fewest, most + 1), min(T, max(AT_ONCE, 4 * most))
        steps = range(fewest, most + 1)
        paths = (
            optimal_paths(costs.costs, steps)
            if costs.first_pairs is None
            else optimal_paths_from_pairs(costs.costs, costs.first_pairs, steps)
        )
        for K, path in paths.items():
            if costs.total(path) <= allowed:
                return K
    return T
