"""What a teacher's local errors add up to at the end of the flow: E‖Σ_i δ_i‖², the solver's error to first order.

Derived for this project. The δ_i are those of `transport`, carried to the end; but the errors of neighbouring
steps point the same way, or cancel, and that is what counts at the end. The sum's square is no sum over steps.
Around a path P, with S_P = Σ δ of its steps, it has an upper bound that is one and touches it at P: for any path
Q of steps q

    E‖S_Q‖² = 2 E⟨S_P, S_Q⟩ − E‖S_P‖² + E‖S_Q − S_P‖²,    S_Q − S_P = Σ_q (δ_q − p_q),
    E‖Σ_q (δ_q − p_q)‖² ≤ Σ_q E‖δ_q − p_q‖²/μ_q            (Jensen, as Σ_q μ_q = 1),

where p_q is the part of S_P that falls into q's interval and μ_q a share of 1, of which each step of P has 1/K:
both are spread evenly over the fine nodes within a step of P, so that they add up over the steps of any path. So
dp, going from table to table, never comes to a path of greater value (majorise and minimise), and ends where it
stays.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.cores import spread
from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.euler_steps import Carried, NodeSteps, between_nodes, fine_nodes, step_weights
from fewstep.objectives.second_moments import SecondMoments
from fewstep.objectives.transport import step_errors
from fewstep.schedule import Schedule
from fewstep.statistics.covariance import KIND as COVARIANCE
from fewstep.statistics.fine_nodes import FineNodes, noise_levels
from fewstep.statistics.teacher_trajectories import KIND, SOLVER

NARROW = 1e-9  # of a fine cell: nodes closer than that are one


class CoherentTransport(Objective):
    """E‖Σ_i δ_i‖² of an image, δ_i the error of step i carried to the end."""

    name = "coherent_transport"
    unit = "squared error"
    needs: Sequence[str] = (KIND, COVARIANCE)
    solver = SOLVER
    linearised = True

    def __init__(self) -> None:
        self._moments: tuple[FineNodes, object, SecondMoments] | None = None

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:
        """Raise a UserError unless the trajectories are of this denoiser."""
        fine_nodes(statistics, KIND, self.name).require(denoiser)

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """The bound's share of every s < t of the fine nodes; without a path E‖δ‖², as if errors were unlike."""
        teacher = fine_nodes(statistics, KIND, self.name)
        moments = self._second_moments(statistics, teacher)
        if around is None:
            return CostTable(teacher.times, _table(moments, None), self.unit)
        around.require_process(teacher.process)
        return CostTable(teacher.times, _table(moments, _Path.of(around.times, teacher, moments)), self.unit)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """‖Σ_i δ_i‖² of every trajectory, float64 [n]; the schedule may visit any times."""
        teacher = fine_nodes(statistics, KIND, self.name)
        schedule.require_process(teacher.process)
        return self._values(statistics, teacher, schedule.times)

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The value again, on the teacher's trajectories: no network call; images and noise are not looked at."""
        teacher = fine_nodes(statistics, KIND, self.name)
        return self._values(statistics, teacher, times.cpu()).mean().to(times.device)

    def _values(self, statistics: Statistics, teacher: FineNodes, times: Tensor) -> Tensor:
        carried = Carried(statistics, self.name, teacher.D[0, 0].numel())
        return torch.cat([errors.sum(0).square().sum(-1) for errors in step_errors(teacher, times, carried)])

    def _second_moments(self, statistics: Statistics, teacher: FineNodes) -> SecondMoments:
        """Those of the latest statistics are kept: a search asks for a table around many paths."""
        covariance = statistics.get(COVARIANCE)
        if self._moments is None or self._moments[0] is not teacher or self._moments[1] is not covariance:
            carried = Carried(statistics, self.name, teacher.D[0, 0].numel())
            self._moments = (teacher, covariance, SecondMoments.of(teacher, carried))
        return self._moments[2]


class _Path:
    """A path P as the tables around it see it, at the fine nodes x = 0 … M.

    Attributes:
        total: S_P, float64 [q].
        below: the part of S_P that falls below node x, float64 [M+1, q]; p(s, t) = below[t] − below[s].
        share: μ below node x, float64 [M+1], from 0 to 1.
    """

    def __init__(self, errors: Tensor, ends: Tensor) -> None:
        """`errors`: δ of P's steps, float64 [K, q]; `ends`: where its nodes lie among the fine nodes [K+1]."""
        nodes = torch.arange(int(ends[-1].round()) + 1, dtype=torch.float64)[:, None]
        passed = ((nodes - ends[:-1]) / ends.diff().clamp(min=NARROW)).clamp(0, 1)  # of each step, below each node
        self.total, self.below, self.share = errors.sum(0), passed @ errors, passed.mean(1)

    @classmethod
    def of(cls, times: Tensor, teacher: FineNodes, moments: SecondMoments) -> "_Path":
        sigma, fine = noise_levels(teacher.process, times), teacher.noise_levels
        weights = step_weights(sigma[:-1], sigma[1:], fine)
        nodes = torch.arange(1, len(fine), dtype=torch.float64)
        ends = torch.cat([torch.zeros(1, dtype=torch.float64), between_nodes(sigma[1:], fine) @ nodes])
        return cls(weights @ moments.D * moments.factors(sigma[:-1]), ends)


def _table(moments: SecondMoments, path: _Path | None) -> Tensor:
    """The costs of every s < t of the fine nodes, float64 [M+1, M+1]."""
    sigma, M = moments.noise_levels, len(moments.D)
    costs = torch.full((M + 1, M + 1), torch.inf, dtype=torch.float64)
    steps = NodeSteps(moments.D, sigma)

    def fill(s: int) -> None:
        errors = steps.to(s) * moments.factors(sigma[s])
        if path is None:
            costs[s, s + 1 :] = errors.square().sum(1)
            return
        share = path.share[s + 1 :] - path.share[s]
        apart = (errors - (path.below[s + 1 :] - path.below[s])).square().sum(1)
        costs[s, s + 1 :] = 2 * errors @ path.total + apart / share - share * path.total.square().sum()

    spread(fill, range(M))
    return costs
