"""Bits/dim of a schedule on held-out images, and the two differences of bits/dim that pair images.

Most of what differs between images is common to every schedule and model, so that a difference taken image by
image has a far smaller standard error than either side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewstep.errors import UserError
from fewstep.metrics.bits_per_dim import BitsPerDim
from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.schedule import Schedule
from fewstep.statistics.image_sums import DenoisingError


@dataclass(frozen=True)
class Likelihood:
    """How bits/dim are judged.

    Attributes:
        variance: the variance kind.
        decoder: the decoder's convention.
        labels: what the rows are of.
    """

    variance: str
    decoder: str
    labels: Mapping[str, Any]

    def row(self, statistics: DenoisingError, schedule: Schedule) -> Result:
        """`bits_per_dim` on the images of `statistics`, which are of the kind that the decoder needs.

        Raises:
            UserError: the schedule, or the optimal variance, comes from the very split that judges it.
        """
        searched_on = schedule.provenance.get("split")
        if statistics.split in (searched_on, statistics.fitted_split):
            raise UserError(
                f"A likelihood searched or fitted on the split {statistics.split!r} cannot be judged on it too; "
                "set evaluation.split to another."
            )
        return self._row("bits_per_dim", self._nats(statistics, schedule), statistics, schedule)

    def row_above_full_grid(self, statistics: DenoisingError, schedule: Schedule) -> Result:
        """`bits_per_dim_above_full`: minus those of all the grid's timesteps, which the statistics must hold.

        Two such rows bound the error of the difference of their schedules by the sum of theirs.
        """
        full = Schedule(statistics.process.grid, statistics.process)
        above = self._nats(statistics, schedule) - self._nats(statistics, full)
        return self._row("bits_per_dim_above_full", above, statistics, schedule)

    def row_of_change(
        self,
        tuned: DenoisingError,
        untuned: DenoisingError,
        schedule: Schedule,
        untuned_schedule: Schedule | None = None,
    ) -> Result:
        """`bits_per_dim_change`: of the tuned model minus those of the untuned one, on the same noise.

        The untuned model may have a schedule of its own.

        Raises:
            UserError: the two are not of the same images.
        """
        if (tuned.split, tuned.n_images) != (untuned.split, untuned.n_images):
            raise UserError(
                f"Two models can be compared on the same images only; given were {tuned.n_images} of "
                f"{tuned.split!r} and {untuned.n_images} of {untuned.split!r}."
            )
        change = self._nats(tuned, schedule) - self._nats(untuned, untuned_schedule or schedule)
        return self._row("bits_per_dim_change", change, tuned, schedule)

    def _nats(self, statistics: DenoisingError, schedule: Schedule) -> Tensor:
        objective = ElboObjective(self.variance, self.decoder)
        return objective.image_values({statistics.kind: statistics}, schedule)

    def _row(self, metric: str, nats: Tensor, statistics: DenoisingError, schedule: Schedule) -> Result:
        bits = BitsPerDim(statistics.dimensions, sync_on_compute=False)  # every device holds all images here
        bits.update(nats)
        value, standard_error = bits.compute()
        return Result(
            **self.labels,
            metric=metric,
            value=value,
            standard_error=standard_error,
            steps=schedule.steps,
            nfe=schedule.steps,
            variance=self.variance,
            decoder=self.decoder,
            n_images=statistics.n_images,
            split=statistics.split,
        )
