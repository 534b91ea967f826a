"""The quadrangle inequality L(a, c) + L(b, d) <= L(a, d) + L(b, c) for all a < b < c < d, checked on a table.

Watson et al. 2021's table has it for the `posterior` variance where the denoising error e(t) does not fall in t.
Row s = 0, the decoder's, is left out: only a path's first step uses it.
"""

import numpy as np
from numpy.typing import NDArray

from fewstep.search.kernels.min_plus import compiled


def holds(costs: NDArray[np.float64]) -> bool:
    """Whether the inequality holds for all 1 <= a < b < c < d, by the entries as they are, sums without rounding.

    Neighbours a, a + 1 and c, c + 1 imply all others. False where a step that takes part is forbidden (+inf).
    The table must be contiguous.
    """
    return bool(_holds(costs))


@compiled("b1(f8[:, ::1])")
def _holds(costs):  # type: ignore[no-untyped-def]
    for a in range(1, len(costs) - 3):
        near, far = costs[a, a + 2 :], costs[a + 1, a + 2 :]
        broken = 0
        for c in range(len(near) - 1):
            p, q, r, u = near[c], far[c + 1], near[c + 1], far[c]
            # Knuth's TwoSum: p + q = left + left_error without rounding, r + u likewise.
            left, right = p + q, r + u
            left_q, right_u = left - p, right - r
            left_error = (p - (left - left_q)) + (q - left_q)
            right_error = (r - (right - right_u)) + (u - right_u)
            at_most = (left < right) | ((left == right) & (left_error <= right_error))
            broken += not (at_most & (right < np.inf))
        if broken:
            return False
    return True
