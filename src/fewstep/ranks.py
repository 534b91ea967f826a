"""The processes of one job, a rank each: all of them run the whole pipeline, and rank 0 alone writes and speaks.

One process is rank 0 of one. What ranks must agree on, such as whether a run is complete, rank 0 decides for all.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed
from torch import Tensor

from fewstep.errors import FailedElsewhere, UserError

Result = TypeVar("Result")
Task = TypeVar("Task")


def rank() -> int:
    """This process's number; 0 where there is one."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """The number of ranks."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def of_first(function: Callable[[], Result]) -> Result:
    """What `function` returns on rank 0, which alone calls it, on every rank.

    Raises:
        FailedElsewhere: on the other ranks, if it raised an exception; rank 0 raises the exception itself.
    """
    if world() == 1:
        return function()
    told: list[Any] = [None, None]
    if rank() > 0:
        torch.distributed.broadcast_object_list(told)
        result, failure = told
        if failure is not None:
            raise FailedElsewhere(failure)
        return result
    try:
        told[0] = function()
    except Exception as error:
        torch.distributed.broadcast_object_list([None, str(error)])
        raise
    torch.distributed.broadcast_object_list(told)
    return told[0]


def first_then_others(function: Callable[[], Result]) -> Result:
    """Call `function` on every rank, on the others after it has ended on rank 0.

    So what it leaves on disk the others find there, and what the user got wrong is told once.
    """
    if world() == 1:
        return function()
    kept: list[Result] = []
    of_first(lambda: kept.append(function()))
    return kept[0] if kept else function()


def shared_out(function: Callable[[Sequence[Task]], Sequence[Result]], tasks: Sequence[Task]) -> list[Result]:
    """The results of all tasks, in order, on every rank; rank r does the tasks r, r + world, ….

    Args:
        function: does some tasks; returns their results, in order.
        tasks: the same on every rank.
    """
    mine = list(function(tasks[rank() :: world()]))
    if world() == 1:
        return mine
    shards: list[list[Result]] = [[] for _ in range(world())]
    torch.distributed.all_gather_object(shards, mine)
    return [shards[task % world()][task // world()] for task in range(len(tasks))]


def gathered(mine: Tensor, n: int) -> Tensor:
    """[n], the rows of all ranks in order, on every rank; `mine` are the rows rank, rank + world, …, finite."""
    if world() == 1:
        return mine
    rows = mine.new_zeros(n)
    rows[rank() :: world()] = mine
    torch.distributed.all_reduce(rows)  # every row is zero on all ranks but one, so the sum is exact
    return rows


def summed(number: int) -> int:
    """The sum of the ranks' numbers, on every rank."""
    if world() == 1:
        return number
    numbers = [0] * world()
    torch.distributed.all_gather_object(numbers, number)
    return sum(numbers)


def require_at_least_one_each(n: int, what: str) -> None:
    """Raise a UserError where `n` things that are shared out leave a rank without any."""
    if n < world():
        raise UserError(f"{what} is {n}, but there are {world()} devices; set it to at least as many.")
