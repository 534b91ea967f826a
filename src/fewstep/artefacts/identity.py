"""What names an artefact: what it is called, its configuration, and the bytes of the files that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run import fingerprint


@dataclass(frozen=True)
class Identity:
    """The identity of an artefact.

    Attributes:
        prefix: what its folder's name begins with.
        config: what decides its numbers.
        inputs: the files that it reads.
    """

    prefix: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]

    def folder(self, root: Path) -> Path:
        """Where it lies; the inputs must be there."""
        return root / f"{self.prefix}-{fingerprint(self.config, self.inputs)}"
