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
        since: when the job first began, by the clock of the disk that runs lie on. What is older was found.
        runs: the finished runs that were shown, by their folders below the experiment's.
        curves: the runs whose curves were begun; what lies in their files was shown as it was written.
    """

    id: str
    since: float
    runs: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Shown":
        """What was shown of the job whose folder this is; nothing of one that has not begun."""
        path = folder / FILE
        if not path.exists():
            return cls(secrets.token_hex(4), 0.0)
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def begun(cls, folder: Path) -> "Shown":
        """The same, and from now on the job has begun."""
        shown = cls.read(folder)
        if not shown.since:
            shown.save(folder)
            shown.since = (folder / FILE).stat().st_mtime
            shown.save(folder)
        return shown

    def save(self, folder: Path) -> None:
        """Keep it."""
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")
