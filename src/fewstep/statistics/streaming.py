"""Statistics of more images than memory should hold at once: block by block of images, joined.

Where `optimal` is fitted on these very images their decoder's term comes out of polynomials, as it does wherever
statistics are joined (fewstep.statistics.joining): right to a relative 1e-6.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewstep.data.base import Images, blocks
from fewstep.denoiser import Denoiser
from fewstep.process import Process
from fewstep.statistics.denoising_error import DenoisingErrorEstimator
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.joining import averaged, joined_images, joined_timesteps

Make = Callable[..., DenoisingErrorEstimator]


class Timestep:
    """The statistics of all images at one timestep; opaque to Lightning, which looks into dataclasses."""

    def __init__(self, statistics: DenoisingError) -> None:
        self.statistics = statistics


class StreamedEstimator:
    """Measures a kind that grows one timestep at a time, reading the images block by block at each.

    Args:
        make: (images, labels, indices=…, first=…, extensible=…) → the estimator of images that memory holds.
        images: [N, C, H, W].
        labels: int64 [N] where the model is class-conditional.
        indices: grid indices to measure at, ascending.
        first: the number of the first image within its split.
        extensible: keep what lets other images join.
        means: keep the means over images alone.
    """

    def __init__(
        self,
        make: Make,
        images: Images,
        labels: Tensor | None,
        *,
        indices: Sequence[int],
        first: int = 0,
        extensible: bool = False,
        means: bool = False,
    ) -> None:
        self.make, self.images, self.labels = make, images, labels
        self.indices = [int(index) for index in indices]
        self.first, self.extensible, self.means = first, extensible, means
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> None:
        """Where images and noise are moved to, block by block."""
        self.device = device

    def prepare(self, process: Process) -> None:
        """Nothing is common to the blocks."""

    def measure(self, denoiser: Denoiser, row: int) -> Timestep:
        """The statistics of all images at the timestep of `indices[row]`, on the CPU."""
        whole = _joined([self._part(denoiser, row, rows) for rows in blocks(self.images)], joined_images)
        whole = whole if self.extensible else replace(whole, by_variance=None)
        return Timestep(averaged(whole) if self.means else whole)

    def _part(self, denoiser: Denoiser, row: int, rows: slice) -> DenoisingError:
        estimator = self.make(
            self.images[rows],
            None if self.labels is None else self.labels[rows],
            indices=[self.indices[row]],
            first=self.first + rows.start,
            extensible=True,
        )
        estimator.to(self.device)
        return estimator.collect(denoiser.process, [estimator.measure(denoiser, 0)])

    def collect(self, process: Process, measured: Sequence[Timestep]) -> DenoisingError:
        """The statistics from what `measure` returned for rows 0 … len − 1."""
        return _joined([row.statistics for row in measured], joined_timesteps)


def estimator_of(make: Make, images: Images, labels: Tensor | None, **where: Any) -> Any:
    """What measures images: all at once where they are one block of rows, else streamed."""
    if len(list(blocks(images))) > 1:
        return StreamedEstimator(make, images, labels, **where)
    return make(images[:], labels, **where)


def _joined(
    parts: Sequence[DenoisingError], join: Callable[[DenoisingError, DenoisingError], DenoisingError]
) -> DenoisingError:
    """All parts, in order; neighbours first, so that no part is copied more than log2 of their number times."""
    while len(parts) > 1:
        pairs = [parts[first : first + 2] for first in range(0, len(parts), 2)]
        parts = [join(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]
