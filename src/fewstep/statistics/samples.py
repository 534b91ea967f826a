"""The images x_0 and noises ε of a Monte Carlo estimate: those of the other kinds, without any network call."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import Images, image_numbers, part_of
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.statistics.storage import Sizes, read_statistics, write_statistics

KIND = "samples"
MOST_BYTES = 2**27  # of images in float64, all of which a search keeps at hand

_SHAPE: Sizes = ("images", "channels", "height", "width")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images and one ε for each, common to all times.

    Attributes:
        process: the process of the model.
        x0: images, float64 [N, C, H, W] in [-1, 1].
        noise: ε, float64 [N, C, H, W].
        labels: int64 [N] where the model is class-conditional.
        levels: number of grey levels.
        split: the split that the images are of.
        seed: of the noise.
        kind: the kind of statistics, as searches name it.
        calls: evaluations of the network; none.
    """

    process: Process
    x0: Tensor
    noise: Tensor
    levels: int
    split: str
    seed: int
    kind: str = KIND
    calls: int = 0
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x0)

    def rows(self, rows: slice | Tensor) -> "Samples":
        """Some of the images, with their noises and labels."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, x0=self.x0[rows], noise=self.noise[rows], labels=labels)

    def to(self, device: torch.device) -> "Samples":
        """The same on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, x0=self.x0.to(device), noise=self.noise.to(device), labels=labels)

    def save(self, path: Path) -> None:
        """Write a safetensors file; what is no tensor goes into its header."""
        tensors = {"x0": self.x0, "noise": self.noise}
        if self.labels is not None:
            tensors["labels"] = self.labels
        facts = {"levels": self.levels, "split": self.split, "seed": self.seed}
        write_statistics(path, self.kind, self.process, tensors, facts)

    @classmethod
    def load(cls, path: Path, kind: str = KIND) -> "Samples":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged or of another kind.
        """
        facts = {"levels": int, "split": str, "seed": int}
        stored = read_statistics(path, kind, {"x0": _SHAPE, "noise": _SHAPE}, facts, {"labels": _SHAPE[:1]})
        content: dict[str, Any] = {**stored.tensors, **stored.facts}
        return cls(process=stored.process, kind=kind, **content)


class SamplesEstimator:
    """Draws `Samples`, in one row without a network call.

    Args:
        images: [N, C, H, W] in [-1, 1]; image b takes the noise of the split's number b, as in the other kinds. Of
            more than `MOST_BYTES` the first ones are taken: 5,461 of 3×32×32, 1,365 of 3×64×64.
        labels: int64 [N] where the model is class-conditional.
        split: the split that the images are of.
        levels: number of grey levels.
        indices: not looked at, the samples serve every time.
        seed: of the noise.
        batch_size: not looked at.
        fitted: not looked at.
        noise: not looked at, one ε per image is common to all times.
    """

    kind = KIND

    def __init__(
        self,
        images: Images,
        labels: Tensor | None,
        *,
        split: str,
        levels: int,
        indices: Sequence[int],
        seed: int,
        batch_size: int,
        fitted: Any = None,
        noise: str = "common",
    ) -> None:
        most = max(1, MOST_BYTES // (8 * math.prod(images.shape[1:])))
        self.images = part_of(images, 0, most)[:].to(torch.float64)
        self.labels = None if labels is None else labels[:most]
        self.split, self.levels, self.seed = split, levels, seed

    @staticmethod
    def network_calls(images: int, timesteps: int) -> int:
        """None."""
        return 0

    def __len__(self) -> int:
        return 1

    def to(self, device: torch.device) -> None:
        """Nothing is measured on a device."""

    def prepare(self, process: Process) -> None:
        """Nothing to prepare."""

    def measure(self, denoiser: Denoiser, row: int) -> None:
        """Nothing is measured; the network is not looked at."""

    def collect(self, process: Process, measured: Sequence[Any]) -> Samples:
        """The samples; `measured` is not looked at."""
        draw = Noise(self.seed, image_numbers(self.split, len(self.images)), self.images.shape[1:])
        return Samples(
            process=process,
            x0=self.images.cpu(),
            noise=draw(0),
            labels=None if self.labels is None else self.labels.cpu(),
            levels=self.levels,
            split=self.split,
            seed=self.seed,
            kind=self.kind,
        )


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = SamplesEstimator
load = Samples.load
