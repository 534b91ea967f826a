"""The two JSON files that mark a run as started and as complete, and what must stand in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.errors import UserError
from fewstep.files import write_atomically

STARTED = "started.json"
COMPLETE = "run.json"

_FORMAT = 1
_MOST_SECONDS = 1e12
_STARTED_FIELDS: dict[str, tuple[type, ...]] = {"config": (dict,), "inputs": (dict,), "seconds": (int, float)}
_COMPLETE_FIELDS: dict[str, tuple[type, ...]] = _STARTED_FIELDS | {
    "git": (str, type(None)),
    "versions": (dict,),
    "device": (str,),
    "seed": (int, type(None)),
    "network_calls": (int,),
    "facts": (dict,),
    "outputs": (dict,),
}


def read_record(folder: Path) -> dict[str, Any]:
    """Read the `run.json` of the complete run in `folder`.

    Raises:
        UserError: there is no complete run, or its record is damaged.
    """
    folder = Path(folder)
    try:
        return _read(folder / COMPLETE, _COMPLETE_FIELDS)
    except (FileNotFoundError, NotADirectoryError):
        pass
    if (folder / STARTED).exists():
        raise UserError(f"The run in {folder} was started but is not complete; start it again to finish it.")
    raise UserError(f"There is no run in {folder}.")


def read_started(folder: Path) -> dict[str, Any]:
    """Read the `started.json` of the unfinished run in `folder`.

    Raises:
        UserError: the file is damaged.
        FileNotFoundError: there is none.
    """
    return _read(Path(folder) / STARTED, _STARTED_FIELDS)


def write_started(folder: Path, fields: Mapping[str, Any]) -> None:
    """Mark the run in `folder` as begun."""
    _write(folder / STARTED, fields)


def write_record(folder: Path, fields: Mapping[str, Any]) -> None:
    """Mark the run in `folder` as complete."""
    _write(folder / COMPLETE, fields)
    (folder / STARTED).unlink(missing_ok=True)


def _write(path: Path, fields: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps({"format": _FORMAT, **fields}, sort_keys=True, indent=2) + "\n")


def _read(path: Path, fields: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not whole JSON") from error
    if not isinstance(marker, dict) or type(marker.get("format")) is not int or marker["format"] < 1:
        raise _damaged(path, "it has no format number")
    if marker["format"] > _FORMAT:
        raise UserError(
            f"{path} has a newer format than {_FORMAT}, the newest that this version of fewstep reads;"
            " update fewstep."
        )
    for field, kinds in fields.items():
        if field not in marker or type(marker[field]) not in kinds:
            raise _damaged(path, f"its field '{field}' is missing or of the wrong kind")
    if not 0 <= marker["seconds"] < _MOST_SECONDS:
        raise _damaged(path, "its seconds are not a time")
    for entry in marker["inputs"].values():
        if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("path", "sha256")):
            raise _damaged(path, "its field 'inputs' is of the wrong kind")
    return marker


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); remove the folder {path.parent} to run it again.")
