"""One step of DDIM against a teacher of many: what it errs by, as numbers times the teacher's own predictions.

In z = x/α and σ = σ_t/α_t a step from t to s, taken from the teacher's own state, errs by

    δ(s, t) = (σ_s/σ_t) z_t + (1 − σ_s/σ_t) D_t − z_s = Σ_i w_i(s, t) D_i,    Σ_i w_i = 0,

as z_s is what the teacher made of z_t: (σ_s/σ_t) z_t + Σ_i [σ_s/σ_{i−1} − σ_s/σ_i] D_i over its steps in
between. The states themselves drop out, large ones with them. Nothing degenerates at s = 0, where δ = D_t − D_1.

Between fine nodes the teacher's state is on its way from one to the next, and D is interpolated in log σ, so
that a schedule may visit any time. Below the first fine node D counts as constant: nodes down there gain
nothing.

The flow carries an error on to the end as it would on Gaussian data of the data's covariance: in a direction of
standard deviation c the error of a step to s is multiplied by c/√(c² + σ_s²).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.objectives.base import Statistics
from fewstep.statistics.covariance import KIND as COVARIANCE
from fewstep.statistics.covariance import MeasuredCovariance
from fewstep.statistics.fine_nodes import FineNodes

BLOCK_BYTES = 2**25  # of D in float64 at a time
SMALLEST = 1e-12  # a direction's least c, as a share of the largest: its errors count at the end, where they stay


def fine_nodes(statistics: Statistics, kind: str, objective: str) -> FineNodes:
    """The statistics of a kind, which an objective needs.

    Raises:
        UserError: they are not given.
    """
    if kind not in statistics:
        raise UserError(
            f"The objective {objective!r} needs statistics of the kind {kind!r}; "
            f"given were {', '.join(statistics) or 'none'}."
        )
    found: FineNodes = statistics[kind]
    return found


def blocks(nodes: FineNodes) -> Iterator[Tensor]:
    """D of some trajectories after the other, float64 [M, n, D]: all of them at once would take much memory."""
    D = nodes.D.flatten(2)
    size = max(1, BLOCK_BYTES // (8 * len(D) * D.shape[2]))
    return (block.double() for block in D.split(size, dim=1))


def between_nodes(sigma: Tensor, fine: Tensor) -> Tensor:
    """The shares of the D_i in D at noise levels sigma [...]: linear in log σ; float64 [..., M].

    Args:
        sigma: float64, differentiable.
        fine: the fine nodes' noise levels, float64 [M+1], the first 0.
    """
    M = len(fine) - 1
    log_fine = fine[1:].log()
    x = sigma.clamp(min=fine[1].item()).log()
    below = (torch.searchsorted(log_fine, x.detach().contiguous(), right=True) - 1).clamp(0, max(M - 2, 0))
    above = (below + 1).clamp(max=M - 1)
    width = (log_fine[above] - log_fine[below]).clamp(min=torch.finfo(torch.float64).tiny)
    share = ((x - log_fine[below]) / width).clamp(max=1)[..., None]
    nodes = torch.eye(M, dtype=torch.float64)
    return (1 - share) * nodes[below] + share * nodes[above]


def step_weights(sigma_s: Tensor, sigma_t: Tensor, fine: Tensor) -> Tensor:
    """w(s, t), float64 [..., M], for steps from noise levels sigma_t to sigma_s [...]; differentiable in both."""
    s, t = sigma_s[..., None], sigma_t[..., None]
    to_lower = torch.cat([torch.full_like(s, torch.inf), s / fine[1:-1]], dim=-1)  # σ_s/σ_{i−1}; the first σ is 0
    of_teacher = (to_lower.clamp(max=1) - torch.maximum(s / fine[1:], s / t)).clamp(min=0)
    return (1 - s / t) * between_nodes(sigma_t, fine) - of_teacher


class NodeSteps:
    """Σ_i w_i(s, t) D_i for all steps between fine nodes, from running sums.

    Args:
        D: of the fine nodes, float64 [M, …].
        sigma: their noise levels, float64 [M+1], the first 0.
    """

    def __init__(self, D: Tensor, sigma: Tensor) -> None:
        self.D, self.sigma, self.shape = D, sigma, (-1, *[1] * (D.ndim - 1))
        taken = torch.cat([torch.zeros(1, dtype=torch.float64), (1 / sigma[1:]).diff().neg()])
        self.sums = (taken.reshape(self.shape) * D).cumsum(
            0
        )  # of (1/σ_{i−1} − 1/σ_i) D_i, from the second node on

    def to(self, s: int) -> Tensor:
        """Of the steps to node s from every node above it, [M − s, …]."""
        if s == 0:
            return self.D - self.D[0]
        kept = (1 - self.sigma[s] / self.sigma[s + 1 :]).reshape(self.shape)
        return kept * self.D[s:] - self.sigma[s] * (self.sums[s:] - self.sums[s - 1])


class Carried:
    """How the flow carries an error to the end.

    Args:
        statistics: with the data's covariance.
        objective: what needs it, for the message.
        dimensions: D of the trajectories.

    Attributes:
        c: the standard deviations of the data's directions, float64 [D].
        basis: the directions, float64 [D, D], columns.

    Raises:
        UserError: there is no covariance, it is of other images, or these are all the same.
    """

    def __init__(self, statistics: Statistics, objective: str, dimensions: int) -> None:
        if COVARIANCE not in statistics:
            raise UserError(f"The objective {objective!r} needs statistics of the kind {COVARIANCE!r}.")
        measured: MeasuredCovariance = statistics[COVARIANCE]
        c = measured.data.eigenvalues.sqrt()
        if len(c) != dimensions:
            raise UserError(
                f"The data's covariance is of images of {len(c)} dimensions, the trajectories of {dimensions}; "
                "measure both of one model's data."
            )
        if not bool(c.max() > 0):
            raise UserError("The images are all the same, so that their covariance tells nothing of schedules.")
        self.c = c.clamp(min=SMALLEST * c.max().item())
        self.basis = measured.data.eigenvectors

    def factors(self, sigma_s: Tensor) -> Tensor:
        """c/√(c² + σ_s²), float64 [..., D]: 1 where the step ends at 0."""
        return self.c / torch.hypot(self.c, sigma_s[..., None])
