"""Bits/dim of a schedule above those of the full grid, with an error that pairs images."""

from collections.abc import Mapping
from typing import Any

from fewstep.metrics.bits_per_dim import BitsPerDim
from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError


def above_full_grid_row(
    statistics: DenoisingError, schedule: Schedule, variance: str, decoder: str, labels: Mapping[str, Any]
) -> Result:
    """Bits/dim of a schedule minus those of all the grid's timesteps, on the same images and noise.

    The standard error is that of the images' own differences: most of what differs between images is common to
    every schedule. Two such rows bound the error of the difference of their schedules by the sum of theirs.

    Args:
        statistics: at all timesteps, of the kind that the decoder needs.
        schedule: on the same process's grid.
        variance: the variance kind.
        decoder: its convention.
        labels: what the row is of.
    """
    objective, measured = ElboObjective(variance, decoder), {statistics.kind: statistics}
    full = Schedule(statistics.process.grid, statistics.process)
    metric = BitsPerDim(statistics.dimensions, sync_on_compute=False)  # every device holds all images here
    metric.update(objective.image_nats(measured, schedule) - objective.image_nats(measured, full))
    value, standard_error = metric.compute()
    return Result(
        **labels,
        metric="bits_per_dim_above_full",
        value=value,
        standard_error=standard_error,
        steps=schedule.steps,
        nfe=schedule.steps,
        variance=variance,
        decoder=decoder,
        n_images=statistics.n_images,
        split=statistics.split,
    )
