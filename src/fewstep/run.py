"""One folder per run: named by its configuration, complete or not, skipped, resumed, never overwritten."""

import errno
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from filelock import FileLock, Timeout

from fewstep.errors import UserError
from fewstep.files import sha256
from fewstep.provenance import (
    NO_INPUTS,
    differences,
    fingerprint,
    git_revision,
    hash_inputs,
    plain,
    shown,
    versions,
)
from fewstep.ranks import of_first
from fewstep.record import COMPLETE, STARTED, read_record, read_started, write_record, write_started

__all__ = ["NOT_OUTPUTS", "Run", "check_output", "fingerprint", "read_record"]

log = logging.getLogger(__name__)

NOT_OUTPUTS = ("unfinished", "checkpoints", "curves")
"""Folders of a run whose files serve to resume it, or mirror it, and may be removed later."""

_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")


_DEEPEST_OUTPUT = 3  # folders between an output and its run's
_BETWEEN_TRIES = 0.25  # seconds; the jobs of a sweep that wait for one run all ask its file system


class Run:
    """A run's folder, locked for as long as the `with` block lasts.

    `config` is the plain configuration that decides the run's numbers, `inputs` the files that it reads.
    Inside the block `complete` says that there is nothing left to do, `resumed` that an earlier attempt with
    the same configuration and inputs was cut short; leaving the block without `finish` leaves the run
    incomplete. A second process that enters the same folder waits, then finds the run complete. Of several ranks
    rank 0 keeps the books; the others wait for it as they enter and as they finish, and see what it sees.

    Raises:
        UserError: on entry, if the folder holds anything but this very run, an input is missing, has changed or
            is not what the run in whose folder it lies wrote, a marker is damaged, an output is missing, or the
            folder cannot be written; on exit, if the block failed because a file could not be written.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Path] = NO_INPUTS) -> None:
        self.folder = Path(folder)
        self.config = plain(config)
        self.inputs = dict(inputs)
        self.complete = False
        self.resumed = False
        self._lock = FileLock(self.folder / ".lock")
        self._hashed_inputs: dict[str, dict[str, str]] = {}
        self._earlier_seconds = 0.0
        self._entered = 0.0

    def __enter__(self) -> "Run":
        self.complete, self.resumed = of_first(self._enter)
        return self

    def _enter(self) -> tuple[bool, bool]:
        """Claim the folder; whether the run is complete, and whether it was begun."""
        self._hashed_inputs = hash_inputs(self.inputs)
        for name, entry in self._hashed_inputs.items():
            _check_origin(name, self.inputs[name], entry["sha256"])
        try:
            self._claim()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"The folder {self.folder} cannot hold a run ({reason}).") from error
        return self.complete, self.resumed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._lock.is_locked:
            return
        try:
            if not self.complete:
                with suppress(OSError):
                    write_started(self.folder, self._marker())
        finally:
            self._lock.release()
        reason = _storage_failure(error, self.folder)
        if reason is not None:
            raise UserError(
                f"The run in {self.folder} stopped because a file could not be written ({reason});"
                " once it can be, start the same run again and it resumes."
            ) from error

    def finish(
        self,
        *,
        network_calls: int,
        device: str,
        seed: int | None,
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Mark the run complete: write `run.json`, with the SHA-256 of every output, last and atomically.

        `network_calls` counts evaluations of the denoiser, one per image and time; `facts` is what else the
        run's readers need, JSON-able. Outputs are all files in the folder except hidden ones and those in
        `NOT_OUTPUTS`. Wall seconds include attempts that an exception ended, but not those that were killed.
        """
        of_first(lambda: self._finish(network_calls, device, seed, facts))
        self.complete = True

    def _finish(self, network_calls: int, device: str, seed: int | None, facts: Mapping[str, Any]) -> None:
        if self.complete or not self._lock.is_locked:
            raise RuntimeError("finish() is for a run that has been entered and is not complete")
        outputs = {path.relative_to(self.folder).as_posix(): sha256(path) for path in self._outputs()}
        record = self._marker() | {
            "git": git_revision(),
            "versions": versions(),
            "device": device,
            "seed": seed,
            "network_calls": network_calls,
            "facts": dict(facts),
            "outputs": outputs,
        }
        write_record(self.folder, record)

    def record(self) -> dict[str, Any]:
        """What `run.json` holds; raises `UserError` as `read_record` does."""
        return read_record(self.folder)

    def _claim(self) -> None:
        # run.json is written last, so no lock is needed to trust it: a complete run can be skipped without
        # waiting, and in a folder that may no longer be written to.
        if self._find_complete():
            return
        self._refuse_strangers()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._refuse_another_configuration()
            log.warning("waiting for %s, held by another process", self.folder)
            self._lock.acquire(timeout=-1, poll_interval=_BETWEEN_TRIES)
        try:
            _look_again(self.folder)
            if self._find_complete():
                self._lock.release()
            else:
                self._start()
        except BaseException:
            self._lock.release()
            raise

    def _start(self) -> None:
        self._refuse_strangers()
        self._entered = time.monotonic()
        if (self.folder / STARTED).exists():
            started = read_started(self.folder)
            self._compare(started)
            self._earlier_seconds = float(started["seconds"])
            self.resumed = True
        _remove_leftovers(self.folder, "" if self.resumed else STARTED)
        git_revision()  # cached, so that finish() records the code that the run began with
        write_started(self.folder, self._marker())

    def _find_complete(self) -> bool:
        if not (self.folder / COMPLETE).exists():
            return False
        record = self.record()
        self._compare(record)
        for name in record["outputs"]:
            if not (self.folder / name).is_file():
                raise UserError(
                    f"The run in {self.folder} is marked complete, but its output {shown(name)} is missing;"
                    " put the file back, or remove that folder to run it again."
                )
        self.complete = True
        return True

    def _refuse_strangers(self) -> None:
        """Raise if the folder holds files and no marker; listed first, lest a run begin in between."""
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise UserError(f"The run's folder {self.folder} is a file; choose another run name.")
        visible = any(not path.name.startswith(".") for path in self.folder.iterdir())
        if visible and not (self.folder / STARTED).exists() and not (self.folder / COMPLETE).exists():
            raise UserError(
                f"The folder {self.folder} is not empty and holds no run of fewstep;"
                " choose another run name, or remove that folder."
            )

    def _refuse_another_configuration(self) -> None:
        """Raise at once where the run that holds the lock is not this one; it need not have marked itself yet."""
        with suppress(FileNotFoundError):
            self._compare(read_started(self.folder))

    def _compare(self, marker: Mapping[str, Any]) -> None:
        """Raise if `marker` is of another configuration or of other inputs."""
        differing = differences(marker["config"], self.config)
        if differing:
            raise UserError(
                f"The folder {self.folder} holds a run of another configuration ({differing});"
                " choose another run name, or remove that folder."
            )
        for name in sorted(marker["inputs"].keys() | self._hashed_inputs.keys()):
            then, now = marker["inputs"].get(name), self._hashed_inputs.get(name)
            if then is None or now is None or then["sha256"] != now["sha256"]:
                path = (now or then)["path"]
                raise UserError(
                    f"The input '{shown(name)}' ({shown(path)}) is not the one that the run in {self.folder}"
                    " began with; restore it, choose another run name, or remove that folder."
                )

    def _marker(self) -> dict[str, Any]:
        return {
            "config": self.config,
            "inputs": self._hashed_inputs,
            "seconds": round(self._earlier_seconds + time.monotonic() - self._entered, 3),
        }

    def _outputs(self) -> Iterator[Path]:
        for path in sorted(self.folder.rglob("*")):
            parts = path.relative_to(self.folder).parts
            hidden = any(part.startswith(".") for part in parts)
            if path.is_file() and not hidden and parts[0] not in (STARTED, COMPLETE, *NOT_OUTPUTS):
                yield path


def check_output(path: Path) -> None:
    """Raise a UserError unless a file is there, and is what the complete run in whose folder it lies wrote."""
    hashed = hash_inputs({path.name: path})
    _check_origin(path.name, path, hashed[path.name]["sha256"])


def _check_origin(name: str, path: Path, digest: str) -> None:
    """Raise if an input lies in a complete run's folder, but is not the file that this run wrote."""
    for folder in list(Path(path).parents)[:_DEEPEST_OUTPUT]:
        if (folder / COMPLETE).is_file():
            written = read_record(folder)["outputs"].get(Path(path).relative_to(folder).as_posix(), digest)
            if written != digest:
                raise UserError(
                    f"The input '{name}' ({path}) is not the one that the run in {folder} wrote; restore it, or"
                    " remove that folder to run it again."
                )
            return


def _look_again(folder: Path) -> None:
    """Have a network file system forget that a file was not there, which it may believe for a minute.

    Who makes a file in a folder is told by the server that others made some since.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{STARTED}."):
        pass


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove the temporary files of atomic writes, to files whose names begin so, that were killed half way."""
    for path in folder.rglob(f".{name}*"):
        if path.is_file() and _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _storage_failure(error: BaseException | None, folder: Path) -> str | None:
    """Why writing failed, if it was the disk's or the folder's fault that `error` was raised."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return None
    cause: BaseException | None = error
    while cause is not None:
        # Libraries not written in Python report a full disk in words only.
        if "No space left on device" in str(cause):
            return "No space left on device"
        if isinstance(cause, OSError):
            inside = cause.filename is not None and Path(str(cause.filename)).is_relative_to(folder)
            if cause.errno in _STORAGE_ERRORS or (inside and isinstance(cause, PermissionError)):
                return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None
