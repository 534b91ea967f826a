"""A schedule for k-diffusion's samplers: the list of σ that they take as `sigmas`."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.schedule import Schedule


def export(schedule: "Schedule") -> str:
    """JSON: K + 1 noise levels σ/α, descending, ending in 0.

    They are σ of the variance-exploding form, also for a variance-preserving model in one of k-diffusion's
    wrappers, which find the timestep of a σ by interpolation over log σ, as here. A sampler starts from
    `torch.randn(…) * sigmas[0]`.

    Raises:
        UserError: the process has zero terminal SNR, so that the first of them is infinite.
    """
    return json.dumps(schedule.sigmas())
