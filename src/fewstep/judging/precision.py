"""What bits/dim lose or gain where the network runs in less than float32."""

import logging
from collections.abc import Mapping
from typing import Any

from fewstep.artefacts.precision import PrecisionFiles
from fewstep.metrics.bits_per_dim import BitsPerDim
from fewstep.objectives.elbo import ElboObjective
from fewstep.report.precision_findings import ALLOWED, CHANGE
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError

log = logging.getLogger(__name__)


def precision_row(files: PrecisionFiles, variance: str, labels: Mapping[str, Any]) -> Result:
    """`bits_per_dim_change_in_<precision>`: bits/dim in the run's precision minus those in float32.

    Of the path through the timesteps measured, with the additive decoder, paired over images. Logs a warning where
    it is more than `ALLOWED`.
    """
    lower, full = DenoisingError.load(files.lower), DenoisingError.load(files.full)
    schedule = Schedule.on_grid([0, *lower.indices.tolist()], lower.process)
    objective = ElboObjective(variance)
    nats = [objective.image_values({one.kind: one}, schedule) for one in (lower, full)]
    bits = BitsPerDim(lower.dimensions, sync_on_compute=False)  # every device holds all images here
    bits.update(nats[0] - nats[1])
    value, standard_error = bits.compute()
    if not abs(value) <= ALLOWED:
        log.warning(
            "In %s the bits/dim differ by %.4f ± %.4f from those in float32, on %d images at %d timesteps; that "
            "is more than %g. Set trainer.precision=32-true for likelihoods.",
            *(files.precision, value, standard_error, lower.n_images, schedule.steps, ALLOWED),
        )
    return Result(
        **labels,
        metric=f"{CHANGE}{files.precision}",
        value=value,
        standard_error=standard_error,
        steps=schedule.steps,
        variance=variance,
        decoder=objective.decoder,
        n_images=lower.n_images,
        split=lower.split,
    )
