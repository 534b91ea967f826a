"""The teacher's local errors as they arise: the objective of GITS (Chen et al. 2024, arXiv 2405.11326).

As there, the cost of a step is E‖δ‖, the distance of one DDIM step from a teacher's state to the teacher's next
one in z = x/α, in the mean over trajectories, and each further step of a path multiplies the cost of all below
it by 1.15: a factor chosen by its authors, which stands for the errors' propagation. Other than there, the
teacher has as many steps as the other objectives' (160 by default, against 60 calls), even in log-SNR, and its
last step goes to 0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.costs import CostTable
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.euler_steps import fine_nodes
from fewstep.objectives.transport import error_table, lengths, step_errors
from fewstep.schedule import Schedule
from fewstep.statistics.fine_nodes import FineNodes
from fewstep.statistics.teacher_trajectories import KIND, SOLVER


class LocalError(Objective):
    """Σ_i tail^{K−i} E‖δ_i‖ over steps i = 1 … K, counted from the data upwards; δ_i is not carried anywhere.

    Args:
        tail: the factor on all steps below, with every step; 1 for the plain sum.

    Raises:
        UserError: a factor that is not positive and finite.
    """

    name = "local_error"
    unit = "error"
    needs: Sequence[str] = (KIND,)
    solver = SOLVER

    def __init__(self, tail: float = 1.15) -> None:
        if isinstance(tail, bool) or not 0 < tail < math.inf:
            raise UserError(f"The tail's factor of local_error must be positive and finite; given was {tail!r}.")
        self.tail = float(tail)

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:
        """Raise a UserError unless the trajectories are of this denoiser."""
        fine_nodes(statistics, KIND, self.name).require(denoiser)

    def edge_costs(self, statistics: Statistics, around: Schedule | None = None) -> CostTable:
        """E‖δ(s, t)‖ for every s < t of the fine nodes."""
        teacher = fine_nodes(statistics, KIND, self.name)
        return CostTable(teacher.times, error_table(teacher, None, power=1), self.unit, tail=self.tail)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """The sum for every trajectory, float64 [n]; the schedule may visit any times."""
        teacher = fine_nodes(statistics, KIND, self.name)
        schedule.require_process(teacher.process)
        return self._values(teacher, schedule.times)

    def loss(self, denoiser: Denoiser, x0: Tensor, times: Tensor, noise: Tensor, statistics: Statistics) -> Tensor:
        """The value again, on the teacher's trajectories: no network call; images and noise are not looked at."""
        return self._values(fine_nodes(statistics, KIND, self.name), times.cpu()).mean().to(times.device)

    def _values(self, teacher: FineNodes, times: Tensor) -> Tensor:
        steps = len(times) - 1
        weights = self.tail ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
        return torch.cat([weights @ lengths(errors) for errors in step_errors(teacher, times, None)])
