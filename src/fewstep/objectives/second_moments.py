"""Few numbers with the second moments of a teacher's many: for objectives that are quadratic in its predictions.

E over trajectories of a product of two combinations of D_1 … D_M, in directions that are carried alike, depends
on their M × M matrix of second moments alone. Its square root, without the components that are rounding, stands
for all trajectories and directions: some tens of numbers per node in place of n D.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.objectives.euler_steps import Carried, blocks
from fewstep.statistics.fine_nodes import FineNodes

GROUPS = 64  # of directions; those of one group are carried alike
ROUNDING = 1e-14  # of the largest component's square: the trajectories are in float32


@dataclass(frozen=True)
class SecondMoments:
    """Numbers for which Σ over them is E over trajectories of Σ over directions.

    Attributes:
        D: in place of the D_i, float64 [M, q].
        c: the standard deviation of each one's direction, float64 [q].
        noise_levels: σ/α at the fine nodes, float64 [M+1].
    """

    D: Tensor
    c: Tensor
    noise_levels: Tensor

    @classmethod
    def of(cls, teacher: FineNodes, carried: Carried) -> "SecondMoments":
        """Of a teacher's trajectories; every direction is a group of its own where there are at most `GROUPS`."""
        M, n = teacher.D.shape[:2]
        group, c = _groups(carried.c)
        products = torch.zeros(len(c), M, M, dtype=torch.float64)
        for block in blocks(teacher):
            rotated = block @ carried.basis
            for number, total in enumerate(products):
                of_group = rotated[:, :, group == number].flatten(1)
                total += of_group @ of_group.T
        squares, components = torch.linalg.eigh(products / n)
        kept = squares > ROUNDING * squares.max()
        roots = squares.clamp(min=0).sqrt()[:, None] * components  # [groups, M, M], a component a column
        return cls(roots.transpose(0, 1)[:, kept], c[:, None].expand_as(squares)[kept], teacher.noise_levels)

    def factors(self, sigma_s: Tensor) -> Tensor:
        """As `Carried.factors`, float64 [..., q]."""
        return self.c / torch.hypot(self.c, sigma_s[..., None])


def _groups(c: Tensor) -> tuple[Tensor, Tensor]:
    """Each direction's group, int64 [D], and each group's c, the geometric mean of its directions'."""
    if len(c) <= GROUPS:
        return torch.arange(len(c)), c
    log_c = c.log()
    low, high = log_c.min(), log_c.max()
    cells = ((log_c - low) / (high - low).clamp(min=1e-9) * GROUPS).long().clamp(max=GROUPS - 1)
    _, group = cells.unique(return_inverse=True)
    counts = torch.bincount(group).double()
    return group, (torch.zeros_like(counts).index_add_(0, group, log_c) / counts).exp()
