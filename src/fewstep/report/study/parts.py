"""The parts of a study, and which of them there are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewstep.report.part import Part
from fewstep.report.rows import read_rows
from fewstep.results import read_results

NETWORKS = ("cosine_simple", "linear_simple", "cosine_hybrid", "linear_hybrid", "cosine_vlb", "linear_vlb")
IMAGES = tuple(f"images_{n:04d}" for n in (8, 16, 32, 64, 128, 256, 512, 1024))
FRESH = tuple(f"fresh_{n:04d}" for n in (32, 128, 512))
FINETUNE, AUTO = "finetune", "auto"
PARTS = (*NETWORKS, FINETUNE, AUTO, *IMAGES, *FRESH)


class Study:
    """All parts that were run.

    Args:
        parts: in any order; they are kept in the study's own, others last.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = {part.name: part for part in sorted(parts, key=lambda part: _place(part.name))}

    @classmethod
    def read(cls, reports: Mapping[str, Path]) -> "Study":
        """The parts in the folders of their reports.

        Raises:
            UserError: a part's results are missing, damaged, empty, or of several datasets or processes.
        """
        return cls(
            [Part(name, read_rows(read_results(Path(path) / "results.csv"))) for name, path in reports.items()]
        )

    @property
    def networks(self) -> list[Part]:
        """The parts with a network of their own: all that do not vary the statistics or tune."""
        return [part for part in self.parts.values() if not _varies(part.name)]

    def numbered(self, kind: str) -> dict[int, Part]:
        """n → the part `<kind>_<n>`, ascending."""
        found = {
            int(match[1]): part
            for name, part in self.parts.items()
            if (match := re.fullmatch(rf"{kind}_(\d+)", name))
        }
        return dict(sorted(found.items()))

    def get(self, name: str) -> Part | None:
        """A part, where it was run."""
        return self.parts.get(name)

    def without(self, names: Sequence[str]) -> list[str]:
        """One line that says which of some parts were not run; nothing where all were."""
        missing = [name for name in names if name not in self.parts]
        if not missing:
            return []
        which = "none of its parts was run" if len(missing) == len(names) else "parts not run"
        return [f"*Incomplete, {which}: {', '.join(missing)}.*"]


def _place(name: str) -> int:
    return PARTS.index(name) if name in PARTS else len(PARTS)


def _varies(name: str) -> bool:
    return name in (FINETUNE, AUTO) or re.fullmatch(r"(images|fresh)_\d+", name) is not None
