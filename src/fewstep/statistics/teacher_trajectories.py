"""Trajectories of the sampler over many steps, the teacher: what objectives of a deterministic solver look at.

One pass of DDIM, which is Euler's method on the probability-flow equation, over fine nodes: in z = x/α and the noise
level σ = σ_t/α_t

    z_{i−1} = (σ_{i−1}/σ_i) z_i + (1 − σ_{i−1}/σ_i) D_i,    D_i = x̂_0(x_{t_i}),

so that the start and the D_i are everything, and the D_i are all that is stored. A start is noise of a split of its
own: it is not the noise of any sample that a schedule is judged by.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import SPLITS, Images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise, class_labels
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import distinct_indices
from fewstep.search.log_snr import LogSnr
from fewstep.solvers.base import device_of
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics
from fewstep.weights import weights_digest

KIND = "teacher_trajectories"
SOLVER = Ddim.name
TRAJECTORIES, STEPS = 256, 160
INFINITE = 1e20  # stands for an infinite noise level: what it divides vanishes
ROWS = 32  # trajectories that are measured together, whatever the size of a batch
MOST_BYTES = 2**29  # of the D_i, in float32


def fine_indices(process: Process, levels: int, steps: int) -> list[int]:
    """The grid indices 0 … T of the teacher's nodes, ascending: `steps` + 1 of them, or the whole grid.

    Those of the rule `log_snr`: even in log-SNR on [σ_0, min(σ_T/α_T, 80)], the first step from T itself, the last
    one to 0. A local error is of the change of D over a step, and D changes with log σ: where σ is far above or
    below the data's standard deviations it hardly does, and even steps in log σ need no knowledge of them.
    """
    rule = LogSnr(levels)
    return [0, *distinct_indices(rule.positions(process, min(steps, process.T)), process.T)]


def most_trajectories(trajectories: int, nodes: int, dimensions: int) -> int:
    """How many of so many trajectories fit `MOST_BYTES`, at least 1: 256 of 160 steps up to 3,276 dimensions."""
    return max(1, min(trajectories, MOST_BYTES // (4 * nodes * dimensions)))


@dataclass(frozen=True, kw_only=True)
class TeacherTrajectories:
    """What the denoiser said along n trajectories of M fine steps.

    Attributes:
        process: the process of the model.
        indices: the fine nodes' grid indices, ascending from 0 to T; M + 1 of them.
        D: x̂_0 at the fine nodes 1 … M, float32 [M, n, C, H, W]; D[0] is the teacher's output.
        labels: int64 [n] where the model is class-conditional.
        levels: grey levels of the data.
        split: the split that the trajectories serve; each has starts of its own.
        seed: of the noise.
        weights: a digest of the network's weights; empty where it has none that can be told by it.
        kind: the kind of statistics.
    """

    process: Process
    indices: list[int]
    D: Tensor
    labels: Tensor | None = None
    levels: int
    split: str
    seed: int
    weights: str = ""
    kind: str = KIND

    @property
    def calls(self) -> int:
        """Evaluations of the network."""
        return self.D.shape[0] * self.D.shape[1]

    @property
    def noise(self) -> Noise:
        """The noise that the trajectories start from: a solver given it starts where they do."""
        return Noise(self.seed, teacher_numbers(self.split, range(self.D.shape[1])), self.D.shape[2:])

    @property
    def noise_levels(self) -> Tensor:
        """σ/α at the fine nodes, float64 [M+1], ascending from 0; a finite number for an infinite one."""
        return self.process.noise_level(self.process.grid[self.indices]).clamp(max=INFINITE)

    @cached_property
    def z(self) -> Tensor:
        """z = x/α at the fine nodes, float32 [M+1, n, C, H, W]; z[0] is the teacher's output."""
        process, levels = self.process, self.noise_levels
        end = process.grid[-1]
        scale = 1 / process.sigma(end) if process.variance_preserving else torch.ones((), dtype=torch.float64)
        z = torch.empty(len(levels), *self.D.shape[1:], dtype=self.D.dtype)
        state = levels[-1] * scale * self.noise(0)  # x_T has unit variance, or σ_T² where α = 1
        z[-1] = state
        for i in range(len(self.D), 0, -1):
            ratio = levels[i - 1] / levels[i]
            state = ratio * state + (1 - ratio) * self.D[i - 1].double()
            z[i - 1] = state
        return z

    def require(self, denoiser: Denoiser) -> None:
        """Raise a UserError unless the trajectories are of this denoiser: its process and its weights."""
        if denoiser.process != self.process:
            raise UserError(
                f"The teacher's trajectories are of {self.process!r} and cannot serve a model of "
                f"{denoiser.process!r}."
            )
        digest = weights_digest(denoiser)
        if self.weights and digest and self.weights != digest:
            raise UserError(
                "The teacher's trajectories were made with other weights than this model's; measure them again "
                "with it."
            )

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        tensors = {"indices": torch.tensor(self.indices[1:]), "denoised": self.D}
        if self.labels is not None:
            tensors["labels"] = self.labels
        facts = {name: getattr(self, name) for name in _FACTS if name != "solver"}
        write_statistics(path, self.kind, self.process, tensors, {**facts, "solver": SOLVER})

    @classmethod
    def load(cls, path: Path, kind: str = KIND) -> "TeacherTrajectories":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, of another kind or of another solver's trajectories.
        """
        process, tensors, facts = read_statistics(path, kind, _SIZES, _FACTS, {"labels": ("trajectories",)})
        if (solver := facts.pop("solver")) != SOLVER:
            raise UserError(
                f"The statistics file {path} holds trajectories of the solver {solver!r}; what is computed of them "
                f"is the error of {SOLVER!r}."
            )
        if tensors["indices"][-1] != process.T:
            raise UserError(f"The statistics file {path} cannot be used: its trajectories do not begin at T.")
        indices = [0, *tensors["indices"].tolist()]
        labels = tensors.get("labels")
        return cls(process=process, indices=indices, D=tensors["denoised"], labels=labels, kind=kind, **facts)


def teacher_numbers(split: str, trajectories: range) -> range:
    """The numbers of the images that a split's trajectories are, unlike those of samples or of any split's images."""
    first = (len(SPLITS) + SPLITS.index(split)) << 32
    return range(first + trajectories.start, first + trajectories.stop)


class TeacherTrajectoriesEstimator:
    """Measures `TeacherTrajectories` some trajectories at a time, so that devices can share them out.

    Args:
        images: [N, C, H, W]; their shape alone is looked at.
        labels: not looked at: of a class-conditional model every trajectory is of a class drawn uniformly.
        split: the split that the trajectories serve.
        levels: number of grey levels.
        indices: not looked at, the fine nodes follow from `steps`.
        seed: of the noise.
        batch_size: not looked at but where it is less than `ROWS`.
        fitted, noise: not looked at.
        trajectories: how many; fewer where the images are so large that these would not fit `MOST_BYTES`.
        steps: M, or T where the process has no more timesteps.
    """

    kind = KIND
    settings = "teacher"  # of StatisticsSettings: what is passed on as arguments of those names

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
        self.trajectories = most_trajectories(trajectories, steps, math.prod(self.shape))

    @staticmethod
    def network_calls(shape: Sequence[int], timesteps: int, trajectories: int, steps: int) -> int:
        """One per trajectory and fine step, for images of a shape on a process of so many timesteps."""
        return most_trajectories(trajectories, steps, math.prod(shape)) * min(steps, timesteps)

    def __len__(self) -> int:
        return -(-self.trajectories // self.rows)

    def to(self, device: torch.device) -> None:
        """Nothing moves: a solver starts on the network's own device."""

    def prepare(self, process: Process) -> None:
        """Nothing to prepare."""

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Any]:
        """D at every fine node of one row's trajectories, on the CPU, one network call per node."""
        chosen = range(row * self.rows, min((row + 1) * self.rows, self.trajectories))
        numbers = teacher_numbers(self.split, chosen)
        label = None
        if denoiser.num_classes is not None:
            label = class_labels(self.seed, numbers, denoiser.num_classes)
        schedule = Schedule.on_grid(fine_indices(denoiser.process, self.levels, self.steps), denoiser.process)
        noise = Noise(self.seed, numbers, self.shape)
        on_device = None if label is None else label.to(device_of(denoiser))
        descending = [step.x0.to("cpu", torch.float32) for step in Ddim()(denoiser, schedule, noise, on_device)]
        return {"D": torch.stack(descending[::-1]), "labels": label, "weights": weights_digest(denoiser)}

    def collect(self, process: Process, measured: Sequence[dict[str, Any]]) -> TeacherTrajectories:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order.

        Raises:
            UserError: the network returned something that is not finite.
        """
        D = torch.cat([row["D"] for row in measured], dim=1)
        labels = None if measured[0]["labels"] is None else torch.cat([row["labels"] for row in measured])
        indices = fine_indices(process, self.levels, self.steps)
        for index, predicted in zip(reversed(indices), D.flip(0), strict=False):
            if not bool(predicted.isfinite().all()):
                raise UserError(
                    f"The network's output is not finite at grid index {index}, on a trajectory of {len(D)} steps; "
                    "its weights may hold NaN."
                )
        return TeacherTrajectories(
            process=process,
            indices=indices,
            D=D,
            labels=labels,
            levels=self.levels,
            split=self.split,
            seed=self.seed,
            weights=measured[0]["weights"],
            kind=self.kind,
        )


_SIZES: dict[str, Sizes] = {
    "indices": ("nodes",),
    "denoised": ("nodes", "trajectories", "channels", "height", "width"),
}
_FACTS: dict[str, type] = {"levels": int, "split": str, "seed": int, "weights": str, "solver": str}

# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = TeacherTrajectoriesEstimator
load = TeacherTrajectories.load
