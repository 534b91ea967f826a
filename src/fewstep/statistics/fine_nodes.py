"""What the denoiser says at the fine nodes of a teacher's schedule: of every trajectory, or path, at every node.

The nodes are those of the rule `log_snr`: even in log-SNR on [σ_0, min(σ_T/α_T, 80)], the first step from T
itself, the last one to 0. A local error is of the change of D over a step, and D changes with log σ: where σ is
far above or below the data's standard deviations it hardly does, and even steps in log σ need no knowledge of
these.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import SPLITS
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import distinct_indices
from fewstep.search.log_snr import LogSnr
from fewstep.statistics.storage import Sizes, Stored, read_statistics, write_statistics
from fewstep.weights import weights_digest

TRAJECTORIES, STEPS = 256, 160
INFINITE = 1e20  # stands for an infinite noise level: what it divides vanishes
ROWS = 32  # trajectories that are measured together, whatever the size of a batch
MOST_BYTES = 2**29  # of D in float32; what measures, joins and writes it takes three times as much


def fine_schedule(process: Process, levels: int, steps: int) -> Schedule:
    """The teacher's schedule of so many steps, or of the whole grid where it has no more."""
    rule = LogSnr(levels)
    indices = distinct_indices(rule.positions(process, min(steps, process.T)), process.T)
    return Schedule.on_grid([0, *indices], process, {"search": rule.name})


def most_trajectories(trajectories: int, steps: int, shape: Sequence[int]) -> int:
    """How many of so many trajectories fit `MOST_BYTES`, at least 1: 256 of 160 steps up to 3,276 dimensions."""
    return max(1, min(trajectories, MOST_BYTES // (4 * steps * math.prod(shape))))


def teacher_numbers(split: str, trajectories: range) -> range:
    """The numbers of the images that a split's trajectories are: no sample has them, nor any image of a split."""
    first = (len(SPLITS) + SPLITS.index(split)) << 32
    return range(first + trajectories.start, first + trajectories.stop)


@dataclass(frozen=True, kw_only=True)
class FineNodes:
    """What the denoiser said of n trajectories at M fine nodes.

    Attributes:
        process: the process of the model.
        indices: the fine nodes' grid indices, ascending from 0 to T; M + 1 of them.
        D: x̂_0 at the fine nodes 1 … M, float32 [M, n, C, H, W].
        levels: grey levels of the data.
        split: the split that the trajectories serve.
        seed: of the noise.
        weights: a digest of the network's weights; empty where it has none that can be told by it.
        kind: the kind of statistics.
    """

    process: Process
    indices: list[int]
    D: Tensor
    levels: int
    split: str
    seed: int
    weights: str = ""
    kind: str

    @property
    def calls(self) -> int:
        """Evaluations of the network."""
        return self.D.shape[0] * self.D.shape[1]

    @property
    def times(self) -> Tensor:
        """The fine nodes' times, float64 [M+1], from 0 to 1."""
        return self.process.grid[self.indices]

    @property
    def noise_levels(self) -> Tensor:
        """σ/α at the fine nodes, float64 [M+1], ascending from 0; a finite number for an infinite one."""
        return noise_levels(self.process, self.times)

    def require(self, denoiser: Denoiser) -> None:
        """Raise a UserError unless the statistics are of this denoiser: its process and its weights."""
        if denoiser.process != self.process:
            raise UserError(
                f"The statistics {self.kind} are of {self.process!r} and cannot serve a model of "
                f"{denoiser.process!r}."
            )
        digest = weights_digest(denoiser)
        if self.weights and digest and self.weights != digest:
            raise UserError(
                f"The statistics {self.kind} were made with other weights than this model's; measure them again "
                "with it."
            )

    def write(self, path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a safetensors file with what a kind adds; what is no tensor goes into its header."""
        own = {"indices": torch.tensor(self.indices[1:]), "denoised": self.D}
        everything = {name: getattr(self, name) for name in _FACTS} | dict(facts)
        write_statistics(path, self.kind, self.process, own | dict(tensors), everything)


def read_fine_nodes(
    path: Path,
    kind: str,
    facts: Mapping[str, type] = MappingProxyType({}),
    optional: Mapping[str, Sizes] = MappingProxyType({}),
) -> Stored:
    """What `FineNodes.write` wrote: facts and tensors by the names that its constructor calls them.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    stored = read_statistics(path, kind, _SIZES, {**_FACTS, **facts}, optional)
    tensors = dict(stored.tensors)
    indices, denoised = tensors.pop("indices"), tensors.pop("denoised")
    if indices[-1] != stored.process.T or stored.facts["split"] not in SPLITS:
        raise UserError(
            f"The statistics file {path} cannot be used: its nodes do not end at T, or its split is none."
        )
    return Stored(stored.process, {**tensors, "D": denoised}, {**stored.facts, "indices": [0, *indices.tolist()]})


def noise_levels(process: Process, times: Tensor) -> Tensor:
    """σ/α at times, float64, finite; differentiable in them."""
    return process.noise_level(times).clamp(max=INFINITE)


def require_finite(D: Tensor, indices: Sequence[int]) -> None:
    """Raise a UserError unless all of D [M, …], of the fine nodes `indices` [M+1], is finite."""
    for node in range(len(D), 0, -1):  # in the order of the steps
        if not bool(D[node - 1].isfinite().all()):
            raise UserError(
                f"The network's output is not finite at grid index {indices[node]}, on a schedule of {len(D)} "
                "steps; its weights may hold NaN."
            )


_SIZES: dict[str, Sizes] = {
    "indices": ("nodes",),
    "denoised": ("nodes", "trajectories", "channels", "height", "width"),
}
_FACTS: dict[str, type] = {"levels": int, "split": str, "seed": int, "weights": str}
