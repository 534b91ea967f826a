"""A schedule for ComfyUI: the text of its node ManualSigmas, whose output goes into SamplerCustom's `sigmas`."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fewstep.schedule import Schedule


def export(schedule: "Schedule") -> str:
    """K + 1 noise levels σ/α, descending, ending in 0, separated by commas; float32, never with an exponent.

    ComfyUI gives the network the nearest whole timestep: exact for a schedule on the grid.

    Raises:
        UserError: the process has zero terminal SNR, so that the first of them is infinite.
    """
    return ", ".join(np.format_float_positional(np.float32(sigma), trim="0") for sigma in schedule.sigmas())
