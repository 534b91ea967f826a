"""What fine-tuning changed in bits/dim, with an error that pairs images."""

from collections.abc import Mapping
from typing import Any

from fewstep.errors import UserError
from fewstep.metrics.bits_per_dim import BitsPerDim
from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError


def likelihood_change_row(
    tuned: DenoisingError,
    untuned: DenoisingError,
    schedule: Schedule,
    variance: str,
    decoder: str,
    labels: Mapping[str, Any],
) -> Result:
    """Bits/dim of the tuned model minus those of the untuned one on the same schedule, images and noise.

    The standard error is that of the images' own differences, far smaller than either model's, because most of
    what differs between images is common to both.

    Raises:
        UserError: the two are not of the same images.
    """
    if (tuned.split, tuned.n_images) != (untuned.split, untuned.n_images):
        raise UserError(
            f"Two models can be compared on the same images only; given were {tuned.n_images} of {tuned.split!r} "
            f"and {untuned.n_images} of {untuned.split!r}."
        )
    objective = ElboObjective(variance, decoder)
    nats, nats_before = (
        objective.image_nats({measured.kind: measured}, schedule) for measured in (tuned, untuned)
    )
    metric = BitsPerDim(tuned.dimensions, sync_on_compute=False)
    metric.update(nats - nats_before)
    value, standard_error = metric.compute()
    return Result(
        **labels,
        metric="bits_per_dim_change",
        value=value,
        standard_error=standard_error,
        steps=schedule.steps,
        nfe=schedule.steps,
        variance=variance,
        decoder=decoder,
        n_images=tuned.n_images,
        split=tuned.split,
    )
