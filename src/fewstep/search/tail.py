"""The dynamic programme where every further step multiplies what all steps below cost (GITS, arXiv 2405.11326).

C[1, t] = L(0, t); C[k, t] = min over s of factor C[k−1, s] + L(s, t). With a factor above 1 a step's error
counts the more, the more steps come above it. A factor of 1 is `fewstep.search.dp`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.errors import UserError


def optimal_paths_with_tail(costs: Tensor, factor: float, steps: Sequence[int]) -> dict[int, list[int]]:
    """The paths of least total cost, as `CostTable.total` adds it up, from index 0 to the last.

    Args:
        costs: float64 [M+1, M+1], +∞ unless s < t.
        factor: what the cost of the steps below is multiplied by; positive.
        steps: the numbers of steps, each from 1 to M.

    Returns:
        For each K the grid indices 0 = i_0 < … < i_K = M; of equal costs the path of smaller indices.

    Raises:
        UserError: a number of steps without a path of finite cost.
    """
    least, came_from = costs[0].clone(), [torch.zeros(len(costs), dtype=torch.int64)]
    totals = [least]
    for _ in range(max(steps) - 1):
        least, before = (factor * totals[-1][:, None] + costs).min(0)
        totals.append(least)
        came_from.append(before)
    paths = {}
    for K in steps:
        if not math.isfinite(totals[K - 1][-1]):
            raise UserError(f"steps holds {K}, but no path of {K} steps has a finite cost.")
        path = [len(costs) - 1]
        for before in reversed(came_from[:K]):
            path.append(int(before[path[-1]]))
        paths[K] = path[::-1]
    return paths
