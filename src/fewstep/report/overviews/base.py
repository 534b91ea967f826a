"""What every table of all runs is given, and what it makes of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fewstep.report.content import Content
from fewstep.report.runs import MeasuredRun


class Measured(NamedTuple):
    """What a table is made of.

    Attributes:
        runs: the complete evaluations.
        schedule_optimizers: the names of all schedule optimizers that there are, run or not.
    """

    runs: Sequence[MeasuredRun]
    schedule_optimizers: Sequence[str]


class Overview(Protocol):
    """A table of all runs, found by its `name` in the files of this package; it takes no settings."""

    name: str

    def __call__(self, available: Measured) -> Content:
        """The page that it is."""
        ...
