"""Trajectories of a sampler of many steps, the teacher: what objectives of a deterministic solver look at.

One pass of DDIM, which is Euler's method on the probability-flow equation, over fine nodes: in z = x/α and the
noise level σ = σ_t/α_t

    z_{i−1} = (σ_{i−1}/σ_i) z_i + (1 − σ_{i−1}/σ_i) D_i,    D_i = x̂_0(x_{t_i}),

so that the start and the D_i are everything, and the D_i are all that is stored. The start is noise of a split of
its own: no sample that a schedule is judged by starts from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import Images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise, class_labels
from fewstep.process import Process
from fewstep.solvers.base import device_of
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.fine_nodes import (
    ROWS,
    STEPS,
    TRAJECTORIES,
    FineNodes,
    fine_schedule,
    most_trajectories,
    read_fine_nodes,
    require_finite,
    teacher_numbers,
)
from fewstep.weights import weights_digest

KIND = "teacher_trajectories"
SOLVER = Ddim.name


@dataclass(frozen=True, kw_only=True)
class TeacherTrajectories(FineNodes):
    """What the denoiser said along n trajectories of M fine steps; D[0] is the teacher's output.

    Attributes:
        labels: int64 [n] where the model is class-conditional.
    """

    labels: Tensor | None = None
    kind: str = KIND

    @property
    def noise(self) -> Noise:
        """The noise that the trajectories start from: a solver given it starts where they do."""
        return Noise(self.seed, teacher_numbers(self.split, range(self.D.shape[1])), self.D.shape[2:])

    @cached_property
    def z(self) -> Tensor:
        """z = x/α at the fine nodes, float32 [M+1, n, C, H, W]; z[0] is the teacher's output."""
        process, sigma = self.process, self.noise_levels
        end = process.grid[-1]
        scale = 1 / process.sigma(end) if process.variance_preserving else 1.0
        z = torch.empty(len(sigma), *self.D.shape[1:], dtype=self.D.dtype)
        state = sigma[-1] * scale * self.noise(0)  # x_T has unit variance, or σ_T² where α = 1
        z[-1] = state
        for i in range(len(self.D), 0, -1):
            ratio = sigma[i - 1] / sigma[i]
            state = ratio * state + (1 - ratio) * self.D[i - 1].double()
            z[i - 1] = state
        return z

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        self.write(path, {} if self.labels is None else {"labels": self.labels}, {"solver": SOLVER})

    @classmethod
    def load(cls, path: Path) -> "TeacherTrajectories":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, of another kind or of another solver's trajectories.
        """
        process, tensors, facts = read_fine_nodes(path, KIND, {"solver": str}, {"labels": ("trajectories",)})
        if (solver := facts.pop("solver")) != SOLVER:
            raise UserError(
                f"The statistics file {path} holds trajectories of the solver {solver!r}; allowed are those of "
                f"{SOLVER!r}, whose error is computed of them."
            )
        content: dict[str, Any] = {**tensors, **facts}
        return cls(process=process, **content)


class TeacherTrajectoriesEstimator:
    """Measures `TeacherTrajectories` some trajectories at a time, so that devices can share them out.

    Args:
        images: [N, C, H, W]; their shape alone is looked at.
        labels: not looked at: of a class-conditional model every trajectory is of a class drawn uniformly.
        split: the split that the trajectories serve; each has starts of its own.
        levels: number of grey levels.
        indices: not looked at, the fine nodes follow from `steps`.
        seed: of the noise and the classes.
        batch_size: the most trajectories of one network call; at most `ROWS` are.
        fitted, noise: not looked at.
        trajectories: how many; fewer of images so large that these would not fit `MOST_BYTES`.
        steps: M, or T where the process has no more timesteps.
    """

    settings = "teacher"  # the section of StatisticsSettings that the last two arguments are

    def __init__(
        self,
        images: Images,
        labels: Tensor | None,
        *,
        split: str,
        levels: int,
        indices: Sequence[int] = (),
        seed: int,
        batch_size: int,
        fitted: Any = None,
        noise: str = "common",
        trajectories: int = TRAJECTORIES,
        steps: int = STEPS,
    ) -> None:
        self.shape = tuple(images.shape[1:])
        self.split, self.levels, self.seed = split, levels, seed
        self.rows, self.steps = min(ROWS, batch_size), steps
        self.trajectories = most_trajectories(trajectories, steps, self.shape)

    @staticmethod
    def network_calls(images: int, timesteps: int, shape: Sequence[int], trajectories: int, steps: int) -> int:
        """One per trajectory and fine step, of images of a shape on a process of so many timesteps."""
        return most_trajectories(trajectories, steps, shape) * min(steps, timesteps)

    def __len__(self) -> int:
        return -(-self.trajectories // self.rows)

    def to(self, device: torch.device) -> None:
        """Nothing moves: a solver starts on the network's own device."""

    def prepare(self, process: Process) -> None:
        """Nothing to prepare."""

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Any]:
        """D at every fine node of one row's trajectories, on the CPU, one network call per node."""
        chosen = range(row * self.rows, min((row + 1) * self.rows, self.trajectories))
        numbers, classes = teacher_numbers(self.split, chosen), denoiser.num_classes
        labels = None if classes is None else class_labels(self.seed, numbers, classes)
        schedule = fine_schedule(denoiser.process, self.levels, self.steps)
        given = None if labels is None else labels.to(device_of(denoiser))
        steps = Ddim()(denoiser, schedule, Noise(self.seed, numbers, self.shape), given)
        descending = [step.x0.to("cpu", torch.float32) for step in steps]
        return {"D": torch.stack(descending[::-1]), "labels": labels, "weights": weights_digest(denoiser)}

    def collect(self, process: Process, measured: Sequence[dict[str, Any]]) -> TeacherTrajectories:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order.

        Raises:
            UserError: the network returned something that is not finite.
        """
        D = torch.cat([row["D"] for row in measured], dim=1)
        indices = fine_schedule(process, self.levels, self.steps).indices
        require_finite(D, indices)
        return TeacherTrajectories(
            process=process,
            indices=indices,
            D=D,
            labels=None if measured[0]["labels"] is None else torch.cat([row["labels"] for row in measured]),
            levels=self.levels,
            split=self.split,
            seed=self.seed,
            weights=measured[0]["weights"],
        )


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = TeacherTrajectoriesEstimator
load = TeacherTrajectories.load
