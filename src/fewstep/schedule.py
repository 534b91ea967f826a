"""A schedule: the timesteps that a sampler visits, its file, and the lists that other software reads."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.exports import diffusers
from fewstep.files import write_atomically
from fewstep.process import Process

FORMAT = "fewstep-schedule"
FORMAT_VERSION = 1


class Schedule:
    """K + 1 ascending times of a process, t_0 = 0 (data) to t_K = 1 (noise).

    Attributes:
        times: float64 [K+1], ascending, first 0, last 1.
        process: the process whose times these are.
        provenance: how the schedule was found (objective, search, seed, …); JSON values.

    Raises:
        UserError: times that are no schedule of `process`.
    """

    def __init__(
        self, times: Tensor | Sequence[float], process: Process, provenance: Mapping[str, Any] | None = None
    ) -> None:
        self.times = torch.as_tensor(times, dtype=torch.float64).cpu()
        self.process = process
        self.provenance = dict(provenance or {})
        self._check()

    @classmethod
    def on_grid(
        cls, indices: Sequence[int], process: Process, provenance: Mapping[str, Any] | None = None
    ) -> "Schedule":
        """The schedule through the grid indices 0 = i_0 < … < i_K = T."""
        if min(indices) < 0 or max(indices) > process.T:
            raise UserError(f"Grid indices must lie in 0 … {process.T}; given were {list(indices)}.")
        return cls(process.grid[torch.as_tensor(indices)], process, provenance)

    def _check(self) -> None:
        if self.times.ndim != 1 or len(self.times) < 2:
            raise UserError(f"A schedule needs at least two times, 0 and 1; given were {self.times.tolist()}.")
        if not bool(torch.isfinite(self.times).all()):
            raise UserError(f"A schedule's times must be finite numbers; given were {self.times.tolist()}.")
        gaps = self.times.diff()
        if not bool((gaps > 0).all()):
            at = int((gaps <= 0).nonzero()[0])
            first, second = self.times[at].item(), self.times[at + 1].item()
            raise UserError(
                f"A schedule's times must ascend without repeats; time {at} is {first}, the next {second}."
            )
        if self.times[0] != 0 or self.times[-1] != 1:
            ends = self.times[0].item(), self.times[-1].item()
            raise UserError(
                f"A schedule starts at time 0 and ends at 1; this one runs from {ends[0]} to {ends[1]}."
            )
        self.process.log_snr(self.times)  # refuses times between 0 and the first timestep

    @property
    def steps(self) -> int:
        """K, the number of intervals."""
        return len(self.times) - 1

    @property
    def indices(self) -> list[int]:
        """The grid indices of the times.

        Raises:
            UserError: a time lies off the grid.
        """
        positions = self.times * self.process.T
        if not bool(((positions - positions.round()).abs() < 1e-6).all()):
            raise UserError("This schedule has times between the timesteps of its process's grid.")
        return [int(position) for position in positions.round()]

    def timesteps(self) -> list[int] | list[float]:
        """K timesteps for diffusers, descending: grid index n is their timestep n − 1; fractions off the grid."""
        positions = (self.times[1:].flip(0) * self.process.T - 1).tolist()
        if all(abs(position - round(position)) < 1e-6 for position in positions):
            return [round(position) for position in positions]
        return positions

    def sigmas(self) -> list[float]:
        """σ/α at the K + 1 times, descending, ending in 0: K network calls of a first-order solver.

        Raises:
            UserError: the process has zero terminal SNR, so that the first of them is infinite.
        """
        if self.process.zero_terminal_snr:
            raise UserError(
                f"The noise level σ/α is infinite where a schedule of {self.process!r} begins, so that it has no "
                "list of sigmas; its timesteps() are what other software can take."
            )
        return self.process.noise_level(self.times).flip(0).tolist()

    def to_diffusers(self, scheduler: object) -> diffusers.Arguments:
        """The arguments of `set_timesteps` of a diffusers scheduler: `scheduler.set_timesteps(**arguments)`.

        Args:
            scheduler: its class, or the scheduler itself, whose configuration is then checked too.

        Raises:
            UserError: it takes no list of timesteps, would change this one in silence, is not one that is tested,
                or is configured for another process or another end.
        """
        return diffusers.arguments(self, scheduler)

    def _sigmas_in_file(self) -> list[float | None]:
        """The list as JSON can hold it: null for the infinite noise level of zero terminal SNR."""
        return [
            level if math.isfinite(level) else None
            for level in self.process.noise_level(self.times).flip(0).tolist()
        ]

    def require_process(self, process: Process) -> None:
        """Raise a UserError unless the schedule was made for `process`."""
        if self.process != process:
            raise UserError(f"This schedule was made for {self.process!r} and cannot be used with {process!r}.")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Schedule) and self.process == other.process and torch.equal(self.times, other.times)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Schedule({self.steps} steps of {self.process!r}: {[round(t, 6) for t in self.times.tolist()]})"

    def save(self, path: Path | str) -> None:
        """Write JSON: format version, process, times, and the lists that other software wants.

        An infinite noise level, where a process with zero terminal SNR begins, is null.
        """
        content = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "steps": self.steps,
            "process": self.process.definition,
            "times": self.times.tolist(),
            "timesteps": self.timesteps(),
            "sigmas": self._sigmas_in_file(),
            "provenance": self.provenance,
        }
        write_atomically(Path(path), json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Schedule":
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, truncated, of a newer format, or not a valid schedule.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"The schedule file {path} cannot be read: {error.strerror or error}.") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"The schedule file {path} is not valid JSON (truncated?): {error}.") from None
        try:
            return cls._from_content(content)
        except UserError as error:
            raise UserError(f"The schedule file {path} cannot be used. {error}") from None

    @classmethod
    def _from_content(cls, content: Any) -> "Schedule":
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UserError(f'It does not say "format": "{FORMAT}".')
        version: Any = content.get("version")
        if not _is_whole(version) or version < 1:
            raise UserError(f"Its format version is {version!r}; this fewstep reads version {FORMAT_VERSION}.")
        if version > FORMAT_VERSION:
            raise UserError(
                f"Its format version is {version}, newer than the {FORMAT_VERSION} that this fewstep reads; "
                "upgrade fewstep."
            )
        missing = [key for key in ("process", "times", "steps", "sigmas") if key not in content]
        if missing:
            raise UserError(f"It lacks {', '.join(missing)}.")
        times, provenance = content["times"], content.get("provenance", {})
        if not isinstance(times, list) or not all(_is_number(time) for time in times):
            raise UserError("Its times must be a list of finite numbers.")
        if not isinstance(content["process"], dict) or not isinstance(provenance, dict):
            raise UserError("Its process and its provenance must be JSON objects.")
        try:
            json.dumps(provenance, allow_nan=False, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise UserError(f"Its provenance cannot be written to a file again: {error}.") from None
        schedule = cls(times, Process.from_definition(content["process"]), provenance)
        if content["steps"] != schedule.steps:
            raise UserError(f"It says steps = {content['steps']!r} but holds {schedule.steps + 1} times.")
        schedule._check_sigmas(content["sigmas"])
        return schedule

    def _check_sigmas(self, sigmas: Any) -> None:
        """The redundancy that finds a file edited by hand, or written by another definition of the process."""
        expected = self._sigmas_in_file()
        agrees = (
            isinstance(sigmas, list)
            and len(sigmas) == len(expected)
            and all(_agree(a, b) for a, b in zip(sigmas, expected, strict=True))
        )
        if not agrees:
            raise UserError("Its sigmas are not those of its times under its process.")


def _agree(given: Any, expected: float | None) -> bool:
    if expected is None:
        return given is None
    return _is_number(given) and math.isclose(given, expected, rel_tol=1e-9, abs_tol=1e-12)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
