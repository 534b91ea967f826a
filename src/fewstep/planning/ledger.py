"""What runs would take, one line for each; what several jobs share is written down once."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from fewstep.calls import Calls
from fewstep.planning.network import Network, Spending

STATISTICS = "statistics"
ORDER = ("pretrain", STATISTICS, "search", "finetune", "fine steps", "evaluate")


@dataclass(frozen=True)
class Line:
    """Network calls of one run.

    Attributes:
        stage: their row of the table: one of `ORDER`, and behind a comma what tells it from others of it.
        folder: of the run, which names it.
        calls: how many.
        network: whose.
        trains: whether weights are updated.
        recorded: whether the run's `run.json` counts them; validations during training are not.
        complete: whether the run is complete, and will be skipped.
        kept: bytes that the run holds besides the network's, of statistics the sums of every image.
    """

    stage: str
    folder: Path
    calls: Calls
    network: Network
    trains: bool
    recorded: bool
    complete: bool
    kept: int = 0

    @property
    def spending(self) -> Spending:
        """What they take on this device."""
        of_network = self.network.spending(self.calls, trains=self.trains)
        return replace(of_network, bytes=of_network.bytes + self.kept)


class Total(NamedTuple):
    """What some lines take together.

    Attributes:
        calls: of the network.
        spending: FLOPs and seconds of all, bytes of the largest.
        runs: how many runs.
        complete: how many of them are complete.
    """

    calls: Calls
    spending: Spending
    runs: int
    complete: int


@dataclass
class Ledger:
    """The lines of one or several jobs.

    Attributes:
        lines: (stage, folder) → line.
        shared: the runs that more than one job asked for.
    """

    lines: dict[tuple[str, Path], Line] = field(default_factory=dict)
    shared: set[Path] = field(default_factory=set)

    def add(self, line: Line) -> None:
        """Write a line down, once."""
        self.lines.setdefault((line.stage, line.folder), line)

    def update(self, other: "Ledger") -> None:
        """Write another job's lines down; those that are here already are shared with it."""
        self.shared |= {folder for stage, folder in other.lines.keys() & self.lines.keys()}
        for line in other.lines.values():
            self.add(line)

    @property
    def stages(self) -> list[str]:
        """The stages of the table, in the order of the pipeline's."""
        stages = dict.fromkeys(line.stage for line in self.lines.values())
        return sorted(stages, key=lambda stage: ORDER.index(stage.partition(",")[0]))

    def total(self, stages: Collection[str] | None = None, *, left: bool = False) -> Total:
        """Of some stages, or of all; of what is `left` to do where complete runs are not to count."""
        lines = [line for line in self.lines.values() if stages is None or line.stage in stages]
        lines = [line for line in lines if not (left and line.complete)]
        calls, spending = Calls(), Spending()
        for line in lines:
            calls, spending = calls + line.calls, spending + line.spending
        runs = {line.folder: line.complete for line in lines}
        return Total(calls, spending, len(runs), sum(runs.values()))
