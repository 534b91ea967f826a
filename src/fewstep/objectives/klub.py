"""Align Your Steps' bound (Sabour et al. 2024, arXiv 2404.14507), KLUB: what holding the denoiser's output costs.

The KL divergence between the exact reverse process and the one whose denoiser is held at its output at t_i while
going from t_i to t_{i−1} is at most, in σ = σ_t/α_t,

    Σ_i ∫_{σ_{i−1}}^{σ_i} E‖D(x_σ) − D(x_{t_i})‖² dσ/σ³,

along paths of the forward process, through x_σ to x_{t_i}; it is printed there with a factor s². For an ideal
denoiser E‖D_s − D_t‖² = e(t) − e(s), so that this is the negative ELBO with `posterior` variance, but for a
constant. It is a sum over steps, so dp finds the minimum that they approach by coordinate search, and stop early,
because it is not the best for sampling. As theirs ends at t_min, it ends at the first fine node.

The integral is over 1/(2σ²), by the trapezium rule on the fine nodes: whatever a path is, over the same cells.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.objectives.base import NATS, Objective, Statistics
from fewstep.objectives.euler_steps import between_nodes, blocks, fine_nodes
from fewstep.schedule import Schedule
from fewstep.statistics.fine_nodes import FineNodes, noise_levels
from fewstep.statistics.forward_paths import KIND


class Klub(Objective):
    """Σ_i ∫ E‖D(x_σ) − D(x_{t_i})‖² dσ/σ³ of an image, an upper bound in nats."""

    name = "klub"
    unit = NATS
    needs: Sequence[str] = (KIND,)

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:
        """Raise a UserError unless the paths are of this denoiser."""
        fine_nodes(statistics, KIND, self.name).require(denoiser)

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """The integral over every step s < t of the fine nodes."""
        paths = fine_nodes(statistics, KIND, self.name)
        distances = _mean_squared_distances(paths)  # [M, M]
        cells = _half_snr(paths.noise_levels[1:]).diff().neg()  # ∫ dσ/σ³ from each node to the next, [M−1]
        shares = (cells[:, None] * (distances[1:] + distances[:-1]) / 2).triu(1)  # of the cells below each t
        to_node = torch.cat(
            [shares.flip(0).cumsum(0).flip(0), torch.zeros(1, len(distances), dtype=torch.float64)]
        )
        costs = torch.cat([to_node[:1], to_node])  # the step to 0 is one to the first node
        whole = torch.cat([torch.full((len(costs), 1), torch.inf, dtype=torch.float64), costs], dim=1)
        forbidden = torch.ones_like(whole, dtype=torch.bool).tril()
        dimensions = paths.D[0, 0].numel()
        return CostTable(paths.times, whole.masked_fill(forbidden, torch.inf), self.unit, dimensions=dimensions)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The sum of the integrals on every path, float64 [n]; the schedule may visit any times."""
        paths = fine_nodes(statistics, KIND, self.name)
        schedule.require_process(paths.process)
        return _values(paths, schedule.times)

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The value again, on the same forward paths: no network call; images and noise are not looked at."""
        return _values(fine_nodes(statistics, KIND, self.name), times.cpu()).mean().to(times.device)


def _half_snr(sigma: Tensor) -> Tensor:
    return 1 / (2 * sigma.square())


def _mean_squared_distances(paths: FineNodes) -> Tensor:
    """E‖D_i − D_j‖² of the nodes i and j, float64 [M, M]."""
    M, n = paths.D.shape[:2]
    products = torch.zeros(M, M, dtype=torch.float64)
    for block in blocks(paths):
        apart = (block - block[:1]).flatten(1)  # no distance changes, and less cancels
        products += apart @ apart.T
    squares = products.diagonal()
    return (squares[:, None] + squares - 2 * products).clamp(min=0) / n


def _values(paths: FineNodes, times: Tensor) -> Tensor:
    """The bound on every path, float64 [n]; differentiable in `times` [K+1]."""
    fine = paths.noise_levels
    sigma = noise_levels(paths.process, times).clamp(min=fine[1].item())
    total = []
    for D in blocks(paths):
        total.append(torch.stack([_integral(D, s, t, fine) for s, t in itertools.pairwise(sigma)]))
    return torch.cat(total, dim=1).sum(0)


def _integral(D: Tensor, sigma_s: Tensor, sigma_t: Tensor, fine: Tensor) -> Tensor:
    """∫ ‖D_σ − D_t‖² dσ/σ³ from σ_s to σ_t for D [M, n, D], float64 [n]; D is linear in log σ between nodes."""
    between = fine[1:][(fine[1:] > sigma_s) & (fine[1:] < sigma_t)]
    at = torch.cat([sigma_s[None], between, sigma_t[None]])
    predicted = torch.einsum("km,mnd->knd", between_nodes(at, fine), D)
    distances = (predicted - predicted[-1]).square().sum(-1)
    return torch.trapezoid(distances, _half_snr(at)[:, None], dim=0).neg()
