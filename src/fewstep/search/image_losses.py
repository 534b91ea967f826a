"""An objective's loss of every single image, at the network calls of one loss of them all.

The network is called on batches and its outputs are kept; then the objective is asked once per image, with a
network that returns that image's share of what was kept.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.objectives.base import Objective, Statistics
from fewstep.statistics.samples import Samples


class _Recorder(nn.Module):
    """A backbone that keeps what it returned."""

    def __init__(self, backbone: Callable[..., Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor, time: Tensor, *label: Tensor) -> Tensor:
        output = self.backbone(x, time, *label)
        self.outputs.append(output)
        return output


@torch.no_grad()
def image_losses(
    objective: Objective,
    denoiser: Denoiser,
    samples: Samples,
    times: Tensor,
    statistics: Statistics,
    batch_size: int,
) -> Tensor:
    """The loss of every sample at `times` [K+1], float64 [N].

    Their mean is the loss of all where that is a mean over images. The objective must call the network as often
    for one image as for many.
    """
    losses = []
    for first in range(0, len(samples), batch_size):
        batch = samples.rows(slice(first, first + batch_size))
        x0, noise = batch.x0, batch.noise
        recorder = _Recorder(denoiser.backbone)
        recording = Denoiser(recorder, denoiser.process, denoiser.parameterisation)
        objective.loss(recording.given(batch.labels), x0, times, noise, statistics)
        denoiser.calls += recording.calls
        denoiser.evaluations += recording.evaluations
        for b in range(len(x0)):
            kept = iter([output[b : b + 1] for output in recorder.outputs])
            replayed = Denoiser(_replay(kept), denoiser.process, denoiser.parameterisation)
            losses.append(objective.loss(replayed, x0[b : b + 1], times, noise[b : b + 1], statistics))
    return torch.stack(losses).double().cpu()


def _replay(kept: Iterator[Tensor]) -> Callable[..., Tensor]:
    return lambda x, time: next(kept)
