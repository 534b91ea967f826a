"""What a number comes from: the configuration, the input files, the code and its versions."""

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fewstep.errors import UserError
from fewstep.files import sha256

PACKAGES = ("torch", "pytorch-lightning", "fewstep", "numpy")
NO_INPUTS: Mapping[str, Path] = MappingProxyType({})
_SHOWN_KEYS = 5
_SHOWN_CHARACTERS = 120


def canonical(value: Any) -> str:
    """The one JSON text of a plain value, with sorted keys; equal texts mean equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as it comes back from a JSON file: tuples become lists, names become strings."""
    copy: dict[str, Any] = json.loads(canonical(dict(config)))
    return copy


def hash_inputs(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Path and SHA-256 of each input file, by name.

    Raises:
        UserError: an input is not there or cannot be read.
    """
    hashed = {}
    for name, path in sorted(inputs.items()):
        if not Path(path).is_file():
            raise UserError(f"The input '{name}' is missing: there is no file {path}.")
        try:
            hashed[name] = {"path": str(path), "sha256": sha256(Path(path))}
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"The input '{name}' ({path}) cannot be read ({reason}).") from error
    return hashed


def fingerprint(config: Mapping[str, Any], inputs: Mapping[str, Path] = NO_INPUTS) -> str:
    """Ten hexadecimal digits that name an artefact by its configuration and its inputs' bytes."""
    hashes = {name: entry["sha256"] for name, entry in hash_inputs(inputs).items()}
    text = canonical({"config": plain(config), "inputs": hashes})
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The dotted keys in which two configurations differ, with both values; empty if they are equal."""
    old, new = _flat(there), _flat(here)
    differing = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    parts = [
        f"{shown(key)} is {shown(old.get(key, 'absent'))} there and {shown(new.get(key, 'absent'))} here"
        for key in differing[:_SHOWN_KEYS]
    ]
    if len(differing) > _SHOWN_KEYS:
        parts.append(f"and {len(differing) - _SHOWN_KEYS} more differ")
    return "; ".join(parts)


def shown(text: str) -> str:
    """`text` fit for a terminal: of bounded length, and without what no encoding can print."""
    short = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return short.encode("utf-8", "backslashreplace").decode("utf-8")


def versions() -> dict[str, str | None]:
    """The version of Python and of each of `PACKAGES`."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def git_revision() -> str | None:
    """The commit of this package's source, `-dirty` if files were changed; `None` outside git."""
    source = Path(__file__)
    try:
        # An installed copy inside somebody else's repository has no revision: only tracked files do.
        _git(source.parent, "ls-files", "--error-unmatch", source.name)
        return _git(source.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys of a nested mapping, each with its value as canonical JSON; lists count as values."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = canonical(value)
    return flat
