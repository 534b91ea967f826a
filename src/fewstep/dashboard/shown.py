"""What a job's dashboard has been given, so that a resumed or repeated job gives it nothing twice."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fewstep.files import write_atomically

FILE = "shown.json"


@dataclass
class Shown:
    """The dashboard of one job, kept in `outputs/<experiment>/dashboard/<job>/shown.json`.

    Attributes:
        id: of the dashboard's run, drawn at random: two people's runs of one configuration are not one.
        since: when the job first began, in seconds since 1970; finished runs that are older were found by it.
        runs: the finished runs that were shown, by their folders below the experiment's.
        curves: the runs whose curves were begun; what lies in their files was shown as it was written.
    """

    id: str
    since: float
    runs: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path, since: float) -> "Shown":
        """What was shown of the job whose folder this is; nothing of one that begins now, at `since`."""
        path = folder / FILE
        if not path.exists():
            return cls(secrets.token_hex(4), since)
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        """Keep it."""
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")
