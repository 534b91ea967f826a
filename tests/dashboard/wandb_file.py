"""What wandb wrote offline, read back from its `.wandb` file: a LevelDB log of protocol buffers."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4
LONGEST_WAIT = 60.0


def records(path: Path) -> Iterator[Any]:
    """The file's records: after seven bytes of wandb's own, chunks of (checksum, length, kind) in blocks."""
    data, position, record = path.read_bytes(), HEADER, b""
    while position + HEADER <= len(data):
        rest = BLOCK - position % BLOCK
        if rest < HEADER:
            position += rest
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        position += HEADER + length
        record += data[position - length : position]
        if kind in (FULL, LAST):
            yield Record.FromString(record)
            record = b""


def values(items: Any) -> dict[str, Any]:
    """Key → value, of a key with parts the parts joined by dots; wandb's own begin with _."""
    named = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
    return {name: value for name, value in named.items() if not name.startswith("_")}


@dataclass
class Offline:
    """A run that wandb wrote into a folder."""

    folder: Path

    @cached_property
    def records(self) -> list[Any]:
        """All of a run that ended; wandb's own process may write on for a moment."""
        (path,) = self.folder.glob("*.wandb")
        deadline = time.monotonic() + LONGEST_WAIT
        found = list(records(path))
        while "exit" not in [record.WhichOneof("record_type") for record in found[-1:]]:
            assert time.monotonic() < deadline, f"the run in {self.folder} does not end"
            time.sleep(0.05)
            found = list(records(path))
        return found

    def of(self, kind: str) -> list[Any]:
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @property
    def run(self) -> Any:
        return self.of("run")[-1]

    @property
    def config(self) -> dict[str, Any]:
        return {item.key: json.loads(item.value_json) for item in self.run.config.update if item.key[0] != "_"}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [values(record.item) for record in self.of("history")]

    @property
    def summary(self) -> dict[str, Any]:
        return {key: value for record in self.of("summary") for key, value in values(record.update).items()}

    @property
    def axes(self) -> dict[str, str]:
        """Metric → what it is over."""
        return {metric.name or metric.glob_name: metric.step_metric for metric in self.of("metric")}

    @property
    def artifacts(self) -> dict[str, Any]:
        """Name → artifact, but for those that wandb makes of tables."""
        return {one.name: one for one in self.of("artifact") if one.type != "run_table"}

    def curve(self, name: str, axis: str) -> list[tuple[float, float]]:
        return [(row[axis], row[name]) for row in self.history if name in row]

    def table(self, name: str) -> list[dict[str, Any]]:
        """The last table of a name."""
        path = [row[f"{name}.path"] for row in self.history if f"{name}.path" in row][-1]
        table = json.loads((self.folder / "files" / path).read_text())
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def written(root: Path) -> list[Offline]:
    """The offline runs below a folder, in the order in which they were begun."""
    return [Offline(folder) for folder in sorted({path.parent for path in root.rglob("offline-run-*/*.wandb")})]
