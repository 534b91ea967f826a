"""The dynamic programme on one linearised table after another, for objectives that are no sum over steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fewstep.schedule import Schedule

MOST_LINEARISATIONS = 20


@dataclass(frozen=True)
class Found:
    """The best schedule that successive linearisation came by.

    Attributes:
        schedule: it.
        value: its true value, in the objective's unit.
        values: the true values of the best schedules of all tables, in order.
    """

    schedule: Schedule
    value: float
    values: list[float]


def successive_linearisation(
    first: Schedule,
    next_after: Callable[[Schedule], Schedule],
    value: Callable[[Schedule], float],
    most: int = MOST_LINEARISATIONS,
) -> Found:
    """Take the best path of the table around the last path, and so on.

    It ends when a path comes back (a fixed point, or a cycle) or after `most` tables. The true value may rise from
    one table to the next, so that the schedule of the least is kept, the first of equals. A fixed point is the
    best path of its own table, which need not be the best of all.

    Args:
        first: the best schedule of the first table.
        next_after: the best schedule of the table that is linearised around a schedule.
        value: the true value of a schedule.
        most: tables, the first one included.
    """
    schedules, values = [first], [value(first)]
    while len(schedules) < most:
        schedule = next_after(schedules[-1])
        if any(torch.equal(schedule.times, before.times) for before in schedules):
            break
        schedules.append(schedule)
        values.append(value(schedule))
    best = min(range(len(values)), key=values.__getitem__)
    return Found(schedules[best], values[best], values)
