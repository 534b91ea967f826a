"""What the jobs of a sweep say of themselves: a file each, read by the process that started them.

Jobs may run in other processes and on other machines, so that a folder they all see is what they have in common.
"""

import json
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from fewstep.files import write_atomically

_MOST_NAMED = 4  # jobs that failed for one reason


class Outcome(NamedTuple):
    """What a job leaves.

    Attributes:
        told: to the user.
        report: the folder of its report, if it wrote one.
        returned: the number that a sweeper such as optuna asks for, if it asks.
    """

    told: str
    report: Path | None
    returned: float | None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job of a sweep.

    Attributes:
        number: from 0.
        overrides: its words of the command line, setting=value.
        ended: whether it came to an end.
        failure: why it failed, in a sentence; None where it did not.
        part: which part of an experiment it was of, if of any.
        report: the folder of its report, if it wrote one.
    """

    number: int
    overrides: Sequence[str]
    ended: bool = False
    failure: str | None = None
    part: str | None = None
    report: str | None = None


class SweepRecords:
    """The records of a sweep's jobs.

    Args:
        folder: holds a file of each, and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_this_process(cls, jobs: Path) -> "SweepRecords":
        """Those of the sweep that this process started, beside the folders of its jobs.

        Two sweeps over the same jobs at once do not share them.
        """
        return cls(jobs.absolute() / f".sweep-{socket.gethostname()}-{os.getpid()}")

    def write(self, record: JobRecord) -> None:
        """Put a record in the place of the job's earlier one."""
        write_atomically(self.folder / f"{record.number}.json", json.dumps(asdict(record)))

    def read(self) -> list[JobRecord]:
        """All of them, by number."""
        found = [JobRecord(**json.loads(path.read_text(encoding="utf-8"))) for path in self.folder.glob("*.json")]
        return sorted(found, key=lambda record: record.number)

    def remove(self) -> None:
        """Remove the folder; nobody reads it after the sweep."""
        shutil.rmtree(self.folder, ignore_errors=True)


def differing(overrides: Sequence[Sequence[str]]) -> list[str]:
    """The name of each job: those of its overrides that not all jobs have; all of an only job's."""
    common = set[str]().union(*overrides).intersection(*overrides) if len(overrides) > 1 else set[str]()
    return [" ".join(word for word in words if word not in common) or "the job" for words in overrides]


def unfinished(records: Sequence[JobRecord]) -> str | None:
    """What did not come to a good end, jobs of one reason together; None where all did."""
    names = differing([record.overrides for record in records])
    reasons: dict[str, list[str]] = {}
    for record, name in zip(records, names, strict=True):
        if record.failure is not None or not record.ended:
            reasons.setdefault(record.failure or "It was cut short.", []).append(name)
    if not reasons:
        return None
    failed = sum(map(len, reasons.values()))
    lines = [f"  {_listed(jobs)}: {reason}" for reason, jobs in reasons.items()]
    begun = f"{failed} of {len(records)} jobs failed; the same command runs what is missing."
    return "\n".join([begun, *lines])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return "; ".join([*names[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
