"""Bits/dim of a schedule on held-out images."""

from collections.abc import Mapping
from typing import Any

from fewstep.errors import UserError
from fewstep.metrics.bits_per_dim import BitsPerDim
from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError


def likelihood_row(
    statistics: DenoisingError, schedule: Schedule, variance: str, decoder: str, labels: Mapping[str, Any]
) -> Result:
    """Bits/dim of a schedule on the images of `statistics`, which are of the kind that the decoder needs.

    Raises:
        UserError: the schedule, or the optimal variance, comes from the very split that judges it.
    """
    searched_on = schedule.provenance.get("split")
    if statistics.split in (searched_on, statistics.fitted_split):
        raise UserError(
            f"A likelihood searched or fitted on the split {statistics.split!r} cannot be judged on it too; "
            "set evaluation.split to another."
        )
    objective = ElboObjective(variance, decoder)
    metric = BitsPerDim(statistics.dimensions, sync_on_compute=False)  # every device holds all images here
    metric.update(objective.image_nats({statistics.kind: statistics}, schedule))
    value, standard_error = metric.compute()
    return Result(
        **labels,
        metric="bits_per_dim",
        value=value,
        standard_error=standard_error,
        steps=schedule.steps,
        nfe=schedule.steps,
        variance=variance,
        decoder=decoder,
        n_images=statistics.n_images,
        split=statistics.split,
    )
