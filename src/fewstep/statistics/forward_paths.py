"""What the denoiser says along paths of the forward process: of one image with ever more noise added to it.

In z = x/α and σ = σ_t/α_t a path is z_i = z_{i−1} + √(σ_i² − σ_{i−1}²) ε_i from z_0 = x_0, a Brownian motion.
Along it an ideal denoiser is a martingale backwards, so that E‖D_s − D_t‖² = e(t) − e(s) for s < t. Along a
trajectory of the probability-flow equation, which passes through the same distributions, it is not: that needs
paths of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import Images, part_of
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.solvers.base import device_of
from fewstep.statistics.fine_nodes import (
    ROWS,
    STEPS,
    TRAJECTORIES,
    FineNodes,
    fine_schedule,
    most_trajectories,
    noise_levels,
    read_fine_nodes,
    require_finite,
    teacher_numbers,
)
from fewstep.weights import weights_digest

KIND = "forward_paths"


@dataclass(frozen=True, kw_only=True)
class ForwardPaths(FineNodes):
    """What the denoiser said along n forward paths, at M fine nodes."""

    kind: str = KIND

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        self.write(path, {}, {})

    @classmethod
    def load(cls, path: Path) -> "ForwardPaths":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """
        process, tensors, facts = read_fine_nodes(path, KIND)
        content: dict[str, Any] = {**tensors, **facts}
        return cls(process=process, **content)


class ForwardPathsEstimator:
    """Measures `ForwardPaths` some images at a time, so that devices can share them out.

    Args:
        images: [N, C, H, W] in [-1, 1], of which the first are taken.
        labels: int64 [N] where the model is class-conditional.
        split: the split that the images are of.
        levels: number of grey levels.
        indices: not looked at, the fine nodes follow from `steps`.
        seed: of the noise.
        batch_size: the most images of one network call; at most `ROWS` are.
        fitted, noise: not looked at.
        trajectories: how many paths; fewer where there are fewer images, or where they would not fit `MOST_BYTES`.
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
        most = most_trajectories(trajectories, steps, images.shape[1:])
        self.images = part_of(images, 0, most)[:].to(torch.float64)
        self.labels = None if labels is None else labels[:most]
        self.split, self.levels, self.seed = split, levels, seed
        self.rows, self.steps = min(ROWS, batch_size), steps

    @staticmethod
    def network_calls(images: int, timesteps: int, shape: Sequence[int], trajectories: int, steps: int) -> int:
        """One per path and fine step, of so many images of a shape on a process of so many timesteps."""
        return min(images, most_trajectories(trajectories, steps, shape)) * min(steps, timesteps)

    def __len__(self) -> int:
        return -(-len(self.images) // self.rows)

    def to(self, device: torch.device) -> None:
        """Nothing moves but what a network call is given."""

    def prepare(self, process: Process) -> None:
        """Nothing to prepare."""

    def measure(self, denoiser: Denoiser, row: int) -> dict[str, Any]:
        """D at every fine node of one row's paths, on the CPU, one network call per node."""
        process, device = denoiser.process, device_of(denoiser)
        chosen = slice(row * self.rows, min((row + 1) * self.rows, len(self.images)))
        z = self.images[chosen].cpu()
        draw = Noise(self.seed, teacher_numbers(self.split, range(chosen.start, chosen.stop)), z.shape[1:])
        label = None if self.labels is None else self.labels[chosen].to(device)
        times = fine_schedule(process, self.levels, self.steps).times
        added = noise_levels(process, times).square().diff().sqrt()
        levels, denoised = noise_levels(process, times), []
        for i in range(1, len(times)):
            z = z + added[i - 1] * draw(i)
            x_t = z * (process.sigma(times[i]) / levels[i])  # α z, and the noise alone where α = 0
            denoised.append(denoiser(x_t.to(device), times[i], label).x0.to("cpu", torch.float32))
        return {"D": torch.stack(denoised), "weights": weights_digest(denoiser)}

    def collect(self, process: Process, measured: Sequence[dict[str, Any]]) -> ForwardPaths:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order.

        Raises:
            UserError: the network returned something that is not finite.
        """
        D = torch.cat([row["D"] for row in measured], dim=1)
        indices = fine_schedule(process, self.levels, self.steps).indices
        require_finite(D, indices)
        return ForwardPaths(
            process=process,
            indices=indices,
            D=D,
            levels=self.levels,
            split=self.split,
            seed=self.seed,
            weights=measured[0]["weights"],
        )


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = ForwardPathsEstimator
load = ForwardPaths.load
