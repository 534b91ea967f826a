"""How far the K-step sampler ends from the teacher, the sampler of many steps, for the same noise.

    E‖x_0 of K steps − x_0 of the teacher‖²

is the truth of which `transport` and its kin are first-order forms: nothing is linearised, and no Gaussian carries
errors to the end. It costs K network calls per trajectory and value, and is no sum over steps, so that single
nodes have to be moved (`coordinate`). It is the objective for solvers of higher order too, whatever they keep of
the steps before: the teacher is where all of them go as steps become many, whichever solver it was made with.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser, evaluating
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.euler_steps import fine_nodes
from fewstep.objectives.middle_block import middle_features
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver, device_of, solver_calls
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.teacher_trajectories import KIND, TeacherTrajectories

PIXELS, DENOISER_FEATURES = "pixels", "denoiser_features"
SPACES = (PIXELS, DENOISER_FEATURES)


class TeacherDistance(Objective):
    """E‖K-step output − teacher's output‖² over the teacher's trajectories.

    Its `name` ends with the solver's, where that is not DDIM, and with `features`, where it is in these.

    Args:
        solver: any that adds no noise; None: DDIM.
        space: `pixels`, or `denoiser_features`: activations of the denoiser's own middle block, flattened. These
            are not the features of the judge, whose Fréchet distance is to be lowered without being looked at.
        trajectories: how many are used, from the first; all where there are fewer.
        batch_size: of them per network call.
        feature_noise_level: σ/α of the noise that both outputs are given before their features are taken.

    Raises:
        UserError: a setting that is none of these.
    """

    name = "teacher_distance"
    unit = "squared error"
    needs: Sequence[str] = (KIND,)

    def __init__(
        self,
        solver: Solver | None = None,
        space: str = PIXELS,
        trajectories: int = 256,
        batch_size: int = 128,
        feature_noise_level: float = 0.1,
    ) -> None:
        solver = Ddim() if solver is None else solver
        if solver.adds_noise:
            raise UserError(
                f"The distance to the teacher is between outputs of the same noise, and {solver.name!r} adds "
                "more on its way; allowed are solvers that add none, such as ddim with eta=0, dpmpp_2m and heun."
            )
        if space not in SPACES:
            raise UserError(f"There is no space {space!r}; allowed are {', '.join(SPACES)}.")
        if trajectories < 2 or batch_size < 1:
            raise UserError(
                f"The distance to the teacher needs at least 2 trajectories and a batch_size of at least 1; given "
                f"were {trajectories} and {batch_size}."
            )
        if not 0 < feature_noise_level < float("inf"):
            raise UserError(f"feature_noise_level is {feature_noise_level}, but must be positive and finite.")
        self.sampler, self.space = solver, space
        self.solver = solver.name
        of_solver = "" if solver.name == Ddim.name else f"_{solver.name}"
        self.name = f"{TeacherDistance.name}{of_solver}{'' if space == PIXELS else '_features'}"
        self.trajectories, self.batch_size = trajectories, batch_size
        self.feature_noise_level = feature_noise_level

    def check_statistics(self, statistics: Statistics, denoiser: Denoiser) -> None:
        """Raise a UserError unless the trajectories are of this denoiser."""
        _teacher(statistics).require(denoiser)

    def image_values(self, statistics: Statistics, schedule: Schedule, denoiser: Denoiser | None = None) -> Tensor:
        """‖K-step output − teacher's‖² of every trajectory, float64 [n]; the schedule may visit any times.

        Raises:
            UserError: no denoiser, or a teacher of another process, or of fewer steps than K.
        """
        teacher = _teacher(statistics)
        if denoiser is None:
            raise UserError(f"The objective {self.name!r} runs the network, so that it must be given it.")
        schedule.require_process(teacher.process)
        if schedule.steps > len(teacher.D):
            raise UserError(
                f"A teacher of {len(teacher.D)} steps cannot judge a schedule of {schedule.steps}; give it more "
                "with statistics.teacher.steps, or ask for fewer steps."
            )
        number = min(self.trajectories, teacher.D.shape[1])
        blocks = [
            range(first, min(first + self.batch_size, number)) for first in range(0, number, self.batch_size)
        ]
        with evaluating(denoiser), torch.inference_mode():
            return torch.cat([self._distances(teacher, schedule, denoiser, block) for block in blocks])

    def value_calls(self, steps: int) -> Calls:
        """The solver's and, where features are taken, those of both outputs; at most, as there may be fewer."""
        per_image = solver_calls(self.sampler, steps)
        of_features = 0 if self.space == PIXELS else 2
        total = self.trajectories * (per_image.total + of_features)
        return Calls(total, batch=min(self.batch_size, self.trajectories), mark=per_image.mark).at_most()

    def _distances(
        self, teacher: TeacherTrajectories, schedule: Schedule, denoiser: Denoiser, block: range
    ) -> Tensor:
        rows, device = slice(block.start, block.stop), device_of(denoiser)
        noise = Noise(teacher.seed, teacher.noise.indices[rows], teacher.noise.shape)
        label = None if teacher.labels is None else teacher.labels[rows].to(device)
        *_, last = self.sampler(denoiser, schedule, noise, label)
        outputs = [last.x, teacher.D[0, rows].to(device, torch.float64)]
        if self.space == DENOISER_FEATURES:
            added = noise(1).to(device)
            outputs = [
                middle_features(denoiser, output, added, self.feature_noise_level, label) for output in outputs
            ]
        return (outputs[0] - outputs[1]).square().flatten(1).sum(1).cpu()


def _teacher(statistics: Statistics) -> TeacherTrajectories:
    teacher = fine_nodes(statistics, KIND, TeacherDistance.name)
    assert isinstance(teacher, TeacherTrajectories)
    return teacher
