"""What a finished run is made of: the runs whose files it read, as the `run.json` of each says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fewstep.record import COMPLETE, read_record
from fewstep.weights import WEIGHTS

_TYPES = {
    "pretrain": "weights",
    "finetune": "tuned_weights",
    "search": "schedule",
    "evaluate": "metrics",
    "fine_steps": "samples",
}
_DEEPEST_OUTPUT = 3  # folders between an output and its run's
_LONGEST_NAME = 128
_NAMED_BY_CONFIGURATION = re.compile(r"(.+)-seed\d+-[0-9a-f]{10}")


class Input(NamedTuple):
    """A file that a run read.

    Attributes:
        name: what the run calls it.
        path: where it lay.
        sha256: of its bytes.
        folder: the complete run that wrote it; None for a file from elsewhere.
    """

    name: str
    path: Path
    sha256: str
    folder: Path | None


@dataclass(frozen=True)
class Artefact:
    """A complete run as one thing that others are made of: a model, statistics, schedules, numbers.

    Attributes:
        folder: the run's folder, outputs/<experiment>/<stage>/<run>.
    """

    folder: Path

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """Its `run.json`."""
        return read_record(self.folder)

    @property
    def stage(self) -> str:
        """The folder that it lies in: a stage, or a kind of artefact that stages share."""
        return self.folder.parent.name

    @property
    def type(self) -> str:
        """`weights`, `statistics`, `schedule`, `tuned_weights`, `metrics`, …, as a lineage graph calls it."""
        if self.stage == "finetune" and WEIGHTS not in self.record["outputs"]:
            return "metrics"  # of rounds
        return _TYPES.get(self.stage, self.stage)

    @property
    def name(self) -> str:
        """Its name among all artefacts of a project: letters, digits, dots, dashes, underscores."""
        return re.sub(r"[^\w.-]", "_", f"{self.stage}-{self.folder.name}", flags=re.ASCII)[-_LONGEST_NAME:]

    @property
    def label(self) -> str:
        """What it is of, without the seed and the fingerprint of its configuration."""
        named = _NAMED_BY_CONFIGURATION.fullmatch(self.folder.name)
        return named[1] if named else self.folder.name

    @cached_property
    def inputs(self) -> list[Input]:
        """The files that it read."""
        return [
            Input(name, Path(entry["path"]), entry["sha256"], self._run_of(Path(entry["path"])))
            for name, entry in self.record["inputs"].items()
        ]

    def _run_of(self, path: Path) -> Path | None:
        """The complete run that a file is an output of; beside this one first, as outputs may have been moved."""
        beside = [self.folder.parents[1].joinpath(*path.parts[-n : 2 - n]) for n in (3, 4) if len(path.parts) >= n]
        folders = [*beside, *list(path.parents)[:_DEEPEST_OUTPUT]]
        return next((folder for folder in folders if (folder / COMPLETE).is_file()), None)


def ancestry(folder: Path) -> list[Artefact]:
    """A complete run and all that it is made of, everything after what it is made of.

    Raises:
        UserError: there is no complete run, or its record is damaged.
    """
    found: dict[Path, Artefact] = {}

    def visit(folder: Path) -> None:
        if folder not in found:
            artefact = Artefact(folder)
            for parent in dict.fromkeys(one.folder for one in artefact.inputs):
                if parent is not None:
                    visit(parent)
            found[folder] = artefact

    visit(Path(folder))
    return list(found.values())
