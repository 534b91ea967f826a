"""C[k, t] = min over s of C[k-1, s] + L(s, t), one k after the other, in torch: for tables on a GPU.

The same values and paths as `kernels.min_plus`, to the last bit. Each row of C reads the table once, in slabs of
t, so that no second table is made of the sums.
"""

import itertools
import math

import torch
from torch import Tensor

SLABS = 8
PATHS = 512  # most paths followed back at a time


def least_costs(costs: Tensor, begun: Tensor, most: int) -> list[Tensor]:
    """Rows k = 0 .. most of C: row 0 is `begun` [M+1], +inf at index 0; row k holds t = k .. M."""
    size = len(costs)
    bounds = [size * slab // SLABS for slab in range(SLABS + 1)]
    slabs = [(low, high) for low, high in itertools.pairwise(bounds) if low < high]
    own = [_ascending(costs[low:high, low:high]) for low, high in slabs]
    rows, before = [begun], begun
    for k in range(1, most + 1):
        after = torch.cat(
            [(before[low:high, None] + L).amin(0) for (low, high), L in zip(slabs, own, strict=True)]
        )
        for low, high in slabs[1:]:
            earlier = (before[:low, None] + costs[:low, low:high]).amin(0)
            torch.minimum(after[low:high], earlier, out=after[low:high])
        rows.append(after[k:].clone())
        before = after
    return rows


def follow_back(costs: Tensor, rows: list[Tensor], steps: list[int]) -> list[Tensor]:
    """For every k in `steps` the indices i_0 < ... < i_k = M that C[k, M] goes through; integer [k+1] each.

    Of equal sums the smallest s is taken, from the last step to the first.
    """
    paths: list[Tensor] = []
    for first in range(0, len(steps), PATHS):
        paths.extend(_follow_back(costs, rows, steps[first : first + PATHS]))
    return paths


def _follow_back(costs: Tensor, rows: list[Tensor], steps: list[int]) -> list[Tensor]:
    last = len(costs) - 1
    wanted = torch.tensor(steps, device=costs.device)
    visited = torch.full((max(steps) + 1, len(steps)), last, dtype=torch.int32, device=costs.device)
    index = torch.arange(last + 1, device=costs.device)
    for k in range(max(steps), 0, -1):
        begun = (wanted >= k).nonzero()[:, 0]
        node = visited[k, begun].long()
        sums = rows[k - 1][:, None] + costs[k - 1 :, node]
        sums.masked_fill_(index[k - 1 :, None] >= node, math.inf)
        visited[k - 1, begun] = (sums.argmin(0) + k - 1).int()
    return [visited[: k + 1, path] for path, k in enumerate(steps)]


def _ascending(costs: Tensor) -> Tensor:
    """The costs with +inf unless s < t."""
    return costs.masked_fill(torch.ones_like(costs, dtype=torch.bool).tril(), math.inf)
