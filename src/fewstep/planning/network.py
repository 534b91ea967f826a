"""A network on this device: FLOPs, seconds and bytes per image, from a few batches of it."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.planning.memory import peak_bytes
from fewstep.planning.operations import flops
from fewstep.trainable.base import trained_parameters

BUDGET = 1.0  # seconds of one timed batch; a slower network is timed on fewer images, at least on one
REPEATS = 3
GROWTH = 4  # of the number of images, from one on
ADAM = 2  # moments per trained weight
AVERAGED = 4  # bytes of an averaged weight, which is float32 whatever the network's precision


@dataclass(frozen=True)
class Spending:
    """What work takes.

    Attributes:
        flops: floating-point operations, a multiply-add being two.
        seconds: of the network alone.
        bytes: of memory, the most at once.
    """

    flops: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(self.flops + other.flops, self.seconds + other.seconds, max(self.bytes, other.bytes))


@dataclass(frozen=True)
class PerImage:
    """What a pass takes per image.

    Attributes:
        flops: floating-point operations.
        seconds: where `batch` images pass at once.
        bytes: of the tensors that the pass makes, without the gradients of weights.
        batch: how many images it was measured on.
    """

    flops: int
    seconds: float
    bytes: float
    batch: int


class Network:
    """A denoiser whose passes are measured when they are first asked for.

    Args:
        denoiser: on its device, in the precision that it will run in.
        shape: (C, H, W).
        device: the device.
        precision: makes the context that it runs in.
        batch: images of a forward pass.
        training_batch: images of a training iteration.

    Attributes:
        passes: what was measured so far, `forward` and `forward and backward`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, int, int],
        device: torch.device,
        precision: Callable[[], AbstractContextManager[None]],
        batch: int,
        training_batch: int,
    ) -> None:
        self.denoiser, self.shape, self.device, self.precision = denoiser, shape, device, precision
        self.batch, self.training_batch = batch, training_batch
        self.passes: dict[str, PerImage] = {}
        weights = list(denoiser.parameters())
        self.parameters = sum(weight.numel() for weight in weights)
        self.weight_bytes = sum(weight.numel() * weight.element_size() for weight in weights)
        self.trained_bytes = self.weight_bytes * trained_parameters(denoiser) // max(1, self.parameters)

    @property
    def trains_all(self) -> bool:
        """Whether training changes every weight."""
        return self.trained_bytes == self.weight_bytes

    def spending(self, calls: Calls, *, trains: bool) -> Spending:
        """What calls take. Training also holds the averaged weights, gradients, and Adam's moments."""
        if not calls.total:
            return Spending()
        passes = [(calls.forward, self.forward)] if calls.forward else []
        passes += [(calls.forward_backward, self.forward_backward)] if calls.forward_backward else []
        held = self.weight_bytes
        if trains:
            held += AVERAGED * self.parameters + (1 + ADAM) * self.trained_bytes
        return Spending(
            flops=sum(images * one.flops for images, one in passes),
            seconds=sum(images * one.seconds for images, one in passes),
            bytes=held + math.ceil(calls.batch * max(one.bytes for _, one in passes)),
        )

    @property
    def forward(self) -> PerImage:
        """A forward pass without gradients."""

        def work(images: int) -> None:
            with torch.inference_mode(), self.precision():
                self._output(images)

        return self._measured("forward", work, self.batch, 0)

    @property
    def forward_backward(self) -> PerImage:
        """A forward and a backward pass, through the weights that are trained."""

        def work(images: int) -> None:
            self.denoiser.zero_grad(set_to_none=True)
            with self.precision():
                loss = self._output(images).square().mean()
            loss.backward()

        return self._measured("forward and backward", work, self.training_batch, self.trained_bytes)

    def _output(self, images: int) -> Tensor:
        """x̂_0 of some images in the middle of the grid."""
        denoiser, process = self.denoiser, self.denoiser.process
        x_t = torch.zeros(images, *self.shape, device=self.device)
        labelled = denoiser.num_classes is not None
        label = torch.zeros(images, dtype=torch.int64, device=self.device) if labelled else None
        return denoiser(x_t, process.grid[(process.T + 1) // 2], label).x0

    def _measured(self, name: str, work: Callable[[int], None], most: int, gradient_bytes: int) -> PerImage:
        if name not in self.passes:
            self.passes[name] = self._measure(work, most, gradient_bytes)
        return self.passes[name]

    def _measure(self, work: Callable[[int], None], most: int, gradient_bytes: int) -> PerImage:
        """FLOPs of one image; seconds and bytes of as many, up to `most`, as the budget and the memory allow."""
        try:
            operations = flops(lambda: work(1))  # the first pass is slower than others, so that it is not timed
            images, seconds = self._as_many(work, most)
            size = peak_bytes(lambda: work(images), self.device)
            if seconds < BUDGET:
                seconds = statistics.median(self._seconds(work, images) for _ in range(REPEATS))
        except torch.OutOfMemoryError:
            raise UserError(
                f"Not even one image passes through the network in the memory of {self.device}; take another "
                "device, or a smaller network."
            ) from None
        return PerImage(operations, seconds / images, max(0, size - gradient_bytes) / images, images)

    def _as_many(self, work: Callable[[int], None], most: int) -> tuple[int, float]:
        """How many images, up to `most`, budget and memory allow at once, and the seconds that they take."""
        images, seconds = 1, self._seconds(work, 1)
        while images < most and GROWTH * seconds < BUDGET:
            more = min(most, GROWTH * images)
            try:
                images, seconds = more, self._seconds(work, more)
            except torch.OutOfMemoryError:
                break
        return images, seconds

    def _seconds(self, work: Callable[[int], None], images: int) -> float:
        if self.denoiser.compile_backend is not None:
            work(images)  # the first pass of so many images compiles
        self._wait()
        begun = time.perf_counter()
        work(images)
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
