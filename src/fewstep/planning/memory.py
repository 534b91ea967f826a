"""The memory that work takes: measured on a GPU, added up tensor by tensor on a CPU; and that of statistics."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewstep.artefacts.statistics import grows
from fewstep.chebyshev import points_for_exponentials
from fewstep.process import Process
from fewstep.statistics.clipped_denoising_error import KIND as CLIPPED
from fewstep.statistics.fraction_sums import BOUND

POINTS_OF_PAIRS = 65  # of the decoder by pairs: what most networks take, between 17 and 129


class _LiveTensors(TorchDispatchMode):
    """Follows the bytes of the tensors that operations make, from when they are made until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._seen: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for storage in before:  # weights and inputs were there
            self._seen.setdefault(storage._cdata, storage)
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if self._seen.get(storage._cdata) is storage:
            return
        self._seen[storage._cdata] = storage
        size = storage.nbytes()
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.bytes -= size


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that the tensors of `work` take at once, above those that were there before.

    On a GPU as its allocator says (`torch.cuda.max_memory_allocated`). On a CPU, where no allocator says, it is
    the sum over the tensors alive, without what kernels take for themselves.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _LiveTensors() as live:
        work()
    return live.peak


def kept_bytes(kind: str, process: Process, images: int, timesteps: int, *, learned: bool) -> int:
    """What statistics of a kind that grows keep of every image at every timestep, in memory and on disk.

    Float64: ‖x_0 − x̂_0‖² and the decoder under two variances; under `learned` the decoder's third, and P and H as
    polynomials for fractions in [0, 1]; the decoder by pairs as one polynomial, or two.
    """
    if not grows(kind):
        return 0
    log_variance = process.log_variance(process.grid[[1, -1]])
    length = (log_variance[1] - log_variance[0]).item()
    numbers = 4 + 2 * points_for_exponentials(0.5, length, BOUND) if learned else 3
    if kind == CLIPPED:
        numbers += POINTS_OF_PAIRS * (1 + learned)
    return 8 * numbers * images * timesteps
