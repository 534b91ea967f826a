"""What every search offers, and the grid that fixed rules round to. A new search is one file with `__call__`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fewstep.calls import ABOUT, Calls
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule

LARGEST_NOISE_LEVEL = 80.0  # a cosine process's last cells reach σ/α of thousands; no node is spent up there


class Search(Protocol):
    """How schedules are found: one signature for all.

    Attributes:
        name: the search's word in configs and tables.
        needs_objective: whether it is judged by an objective, or is a fixed rule.
        needs: the kinds of statistics that it reads besides the objective's.
    """

    name: str
    needs_objective: bool
    needs: Sequence[str]

    def check(self, objective: Objective | None, process: Process) -> None:
        """Raise a UserError unless it can look for the best schedule of an objective on a process."""
        ...

    def __call__(
        self,
        objective: Objective | None,
        statistics: Statistics,
        denoiser: Denoiser,
        steps: Sequence[int],
    ) -> dict[int, Schedule]:
        """A schedule for every K in `steps`."""
        ...


@runtime_checkable
class StatesCalls(Protocol):
    """A search that says what it costs."""

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """The network calls of a search for `steps`; `images` is how many each kind of statistics is of."""
        ...


def search_calls(
    find: Search, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
) -> Calls:
    """The network calls of a search; one that does not state them is taken to make none."""
    if isinstance(find, StatesCalls):
        return find.network_calls(objective, process, images, steps)
    return Calls(mark=ABOUT)


class FixedRule(ABC):
    """A search that looks at the process alone; subclasses give `positions`."""

    name: str
    needs_objective = False
    needs: Sequence[str] = ()

    def check(self, objective: Objective | None, process: Process) -> None:  # noqa: B027
        """A rule looks at no objective and runs on any process."""

    def __call__(
        self,
        objective: Objective | None,
        statistics: Statistics,
        denoiser: Denoiser,
        steps: Sequence[int],
    ) -> dict[int, Schedule]:
        """The rule's schedule for every K in `steps`; objective and statistics are not looked at."""
        process = denoiser.process
        check_steps(steps, process)
        provenance: dict[str, Any] = {"search": self.name}
        return {
            K: Schedule.on_grid([0, *distinct_indices(self.positions(process, K), process.T)], process, provenance)
            for K in steps
        }

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """None."""
        return Calls()

    @abstractmethod
    def positions(self, process: Process, K: int) -> Tensor:
        """Where the nodes t_1 … t_K lie, in units of the grid's cells, float64 [K], ascending."""


def check_steps(steps: Sequence[int], process: Process) -> None:
    """Raise a UserError unless `steps` are distinct whole numbers from 1 to T."""
    if len(steps) == 0:
        raise UserError("No numbers of steps were given; give at least one, such as steps=[8].")
    for K in steps:
        if isinstance(K, bool) or not isinstance(K, int) or not 1 <= K <= process.T:
            raise UserError(f"Each number of steps must be a whole number from 1 to {process.T}; given was {K!r}.")
    if len(set(steps)) != len(steps):
        raise UserError(f"Each number of steps may be given once; given were {list(steps)}.")


def distinct_indices(positions: Tensor, T: int) -> list[int]:
    """Round positions to distinct grid indices in 1 … T, the last of them T.

    Each position goes to its nearest index (half to even). Where two collide, the later one moves up to the next
    free index; where that would push past T, nodes move down from T instead.
    """
    indices = [min(max(int(position), 1), T) for position in positions.round().tolist()]
    indices[-1] = T
    for i in range(1, len(indices)):
        indices[i] = max(indices[i], indices[i - 1] + 1)
    indices[-1] = T
    for i in range(len(indices) - 2, -1, -1):
        indices[i] = min(indices[i], indices[i + 1] - 1)
    return indices


def noise_level_ends(process: Process, levels: int) -> tuple[float, float]:
    """[σ_0, min(σ_T/α_T, 80)], between which rules space their nodes; σ_0 is half a grey level."""
    if levels < 2:
        raise UserError(f"Images need at least 2 grey levels; given were {levels}.")
    largest = min(process.noise_level(process.grid[-1]).item(), LARGEST_NOISE_LEVEL)
    return 1 / (levels - 1), largest


def positions_of_noise_levels(process: Process, noise_levels: Tensor) -> Tensor:
    """Grid positions of noise levels σ/α, float64; what lies outside the process goes to its nearest end.

    Any noise level is nearer to the last finite one than to an infinite one.
    """
    smallest, largest = process.noise_level(process.grid[[1, -2 if process.zero_terminal_snr else -1]])
    return process.time_of_log_snr(-2 * torch.log(noise_levels.clamp(smallest, largest))) * process.T
