"""Statistics that grow by timesteps and by images until they are good enough; nothing is measured twice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fewstep.objectives.base import NATS, Objective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.regret import best_paths
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import averaged, joined_images, joined_timesteps, selected_timesteps
from fewstep.statistics.refinement import refine

FIRST_IMAGES = 32
TYPICAL_IMAGES = 128  # in the end, at the standard error that is asked for by default


class GrowingStatistics:
    """`DenoisingError` of the first images at some timesteps, and of more of both when asked.

    Args:
        measure: (grid indices, numbers of images) → what it measures there; means, where no images will be added.
        images: how many images to begin with.
    """

    def __init__(self, measure: Callable[[Sequence[int], range], DenoisingError], images: int) -> None:
        self._measure = measure
        self.n_images = images
        self._measured: DenoisingError | None = None

    @property
    def indices(self) -> list[int]:
        """The grid indices measured."""
        return [] if self._measured is None else self._measured.indices.tolist()

    @property
    def calls(self) -> int:
        """Evaluations of the network."""
        return 0 if self._measured is None else self._measured.calls

    def at(self, indices: Sequence[int]) -> DenoisingError:
        """The statistics at grid indices, ascending; those measured before are not measured again."""
        known = set(self.indices)
        new = [index for index in indices if index not in known]
        if new:
            found = self._measure(new, range(self.n_images))
            self._measured = found if self._measured is None else joined_timesteps(self._measured, found)
        assert self._measured is not None
        return selected_timesteps(self._measured, indices)

    def add_images(self, images: int) -> None:
        """Measure, at the timesteps measured, the images up to number `images`."""
        if self._measured is not None:
            found = self._measure(self.indices, range(self.n_images, images))
            self._measured = joined_images(self._measured, found)
        self.n_images = images


@dataclass(frozen=True)
class Needs:
    """How good statistics must be.

    Attributes:
        regret: what the path chosen may cost more than with all timesteps, bits/dim (a share of its cost where an
            objective's costs are not in nats); None: all timesteps are measured.
        standard_error: of the chosen path's total over images, bits/dim; None: the images are as many as given.
    """

    regret: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Grown:
    """Statistics that are good enough, or of everything that there is.

    Attributes:
        measured: the statistics, at the timesteps measured alone.
        regret_bound: as `Refined.regret_bound`; 0 where all timesteps were measured.
        standard_error: the largest over objectives and K's of the chosen path's total, bits/dim; NaN where none is
            asked for, or no objective is in nats.
        calls: evaluations of the network that it took.
    """

    measured: DenoisingError
    regret_bound: float
    standard_error: float
    calls: int


def grow(
    statistics: GrowingStatistics,
    process: Process,
    objectives: Sequence[Objective],
    kind: str,
    steps: Sequence[int],
    needs: Needs,
    most_images: int,
) -> Grown:
    """Add timesteps, then twice the images, then timesteps, until the statistics are as good as needed.

    Args:
        statistics: what grows.
        process: the model's.
        objectives: those that the statistics are for, which read this kind alone.
        kind: the kind of statistics.
        steps: the K's.
        needs: how good.
        most_images: how many images there are.
    """
    tables = [lambda found, objective=objective: objective.edge_costs({kind: found}) for objective in objectives]
    while True:
        if needs.regret is None:
            measured, bound = statistics.at(range(1, process.T + 1)), 0.0
        else:
            refined = refine(statistics.at, process, tables, steps, needs.regret)
            measured, bound = refined.measured, refined.regret_bound
        wanted = needs.standard_error
        error = math.nan if wanted is None else _standard_error(measured, objectives, kind, steps)
        if wanted is None or not error > wanted or statistics.n_images == most_images:
            return Grown(replace(measured, by_variance=None), bound, error, statistics.calls)
        statistics.add_images(min(2 * statistics.n_images, most_images))


def _standard_error(
    measured: DenoisingError, objectives: Sequence[Objective], kind: str, steps: Sequence[int]
) -> float:
    """The largest standard error of a chosen path's total over images, bits/dim."""
    means = {kind: interpolated(averaged(measured))}
    largest = math.nan
    for objective in (one for one in objectives if one.unit == NATS):
        for path in best_paths(objective.edge_costs(means), steps).values():
            schedule = Schedule.on_grid(path, measured.process)
            nats = objective.image_values({kind: interpolated(measured, at=path[1:])}, schedule)
            error = (nats.std() / len(nats) ** 0.5).item() / (measured.dimensions * math.log(2))
            largest = error if math.isnan(largest) else max(largest, error)
    return largest
