"""The rows C[k, t] = min over s of C[k-1, s] + L(s, t) where the quadrangle inequality holds, in O(M log M) each.

There the best s never falls as t grows, and divide and conquer over t finds it (Yao 1980): here over the first
index of every block, and within a block by trying all s between the best of its two ends.

Equal to the full recursion to the last bit, provided that the inequality holds without rounding. Where a sum
C[k-1, b] + L(b, t) rounds to less than C[k-1, a] + L(a, t), it is less, and stays less at every later t if a < b,
at every earlier t if a > b; rounded, it is then at most equal. Sums that round alike say nothing of the kind. So
what follows t is searched from the smallest of the equally good s on, and what precedes t up to the largest.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fewstep.search.kernels.min_plus import WIDTH, LeastCosts, compiled


def fill(costs: NDArray[np.float64], least: LeastCosts) -> None:
    """Fill rows 1 and up of `least` from its row 0, for a contiguous table of which `quadrangle.holds`."""
    begins, ends = least.first[:-1], least.first[1:]
    before = least.values[begins].ravel()
    after = np.empty_like(before)
    nodes = np.minimum(np.arange(least.blocks + 1) * WIDTH, len(costs) - 1)
    arriving = np.ascontiguousarray(costs[:, nodes].T)
    smallest, largest = np.zeros((2, len(nodes)), dtype=np.int64)
    for k in range(1, ends[-1] - begins[-1]):
        smallest[0] = k
        after.fill(math.inf)
        _bound(arriving, nodes, before, smallest, largest)
        _lower_row(costs, before, after, smallest, largest)
        stored = begins + k < ends
        least.values[begins[stored] + k] = after.reshape(-1, WIDTH)[stored]
        before, after = after, before


@compiled("void(f8[:, ::1], i8[::1], f8[::1], i8[::1], i8[::1])")
def _bound(arriving, nodes, before, smallest, largest):  # type: ignore[no-untyped-def]
    """The smallest and the largest best s for t = nodes, the ends of the blocks, from coarse strides to fine."""
    blocks = len(nodes) - 1
    stride = 1
    while 2 * stride <= blocks:
        stride *= 2
    while stride > 0:
        for n in range(stride, blocks + 1, 2 * stride):
            smallest[n], largest[n] = smallest[n - stride], nodes[n] - 1
            if n + stride <= blocks:
                largest[n] = min(largest[n], largest[n + stride])
            least = np.inf
            for s in range(smallest[n], largest[n] + 1):
                total = before[s] + arriving[n, s]
                if total < least:
                    least, smallest[n] = total, s
                if total == least:
                    largest[n] = s
        stride //= 2


@compiled("void(f8[:, ::1], f8[::1], f8[::1], i8[::1], i8[::1])")
def _lower_row(costs, before, after, smallest, largest):  # type: ignore[no-untyped-def]
    """after[t] = min over s of before[s] + L(s, t); within a block, over s between the best of its two ends."""
    size = len(costs)
    for j in range(len(smallest) - 1):
        low, high = j * WIDTH, min((j + 1) * WIDTH, size)
        for s in range(smallest[j], min(largest[j + 1], high - 2) + 1):
            start, begin = before[s], max(low, s + 1)
            cost, least = costs[s, begin:high], after[begin:high]
            for t in range(len(least)):
                least[t] = min(least[t], start + cost[t])
