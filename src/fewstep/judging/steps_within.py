"""How few steps are enough: the smallest K whose optimal schedule stays near the full grid."""

from collections.abc import Mapping
from typing import Any

from fewstep.objectives.elbo import ElboObjective
from fewstep.results import Result
from fewstep.search.steps_within import steps_within
from fewstep.statistics.image_sums import DenoisingError

TOLERANCES = (0.1, 0.05, 0.01)  # bits/dim


def steps_within_rows(measured: DenoisingError, variance: str, labels: Mapping[str, Any]) -> list[Result]:
    """A row `steps_within_<tolerance>` for each tolerance, on the images behind the search, additive decoder."""
    objective = ElboObjective(variance)
    table = objective.edge_costs({measured.kind: measured})
    return [
        Result(
            **dict(labels) | {"schedule_optimizer": "elbo_dp"},
            metric=f"steps_within_{tolerance}",
            value=steps_within(table, tolerance),
            variance=variance,
            decoder=objective.decoder,
            n_images=measured.n_images,
            split=measured.split,
        )
        for tolerance in TOLERANCES
    ]
