"""Work spread over a CPU's cores in whole pieces, one core each.

Kernels as short as this project's, split over the cores one by one, mostly wait for the slowest core: for
milliseconds each where cores are shared with other programs.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


@contextmanager
def one_core_per_kernel() -> Iterator[int]:
    """Keep torch from splitting kernels over the cores; yields the number of cores that it would use."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


def spread(function: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
    """`function` of every piece, in order, as many at once as torch has cores.

    Each piece runs in a thread of its own, outside the caller's inference or autocast mode.
    """
    with (
        one_core_per_kernel() as cores,
        ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        return list(pool.map(function, pieces))
