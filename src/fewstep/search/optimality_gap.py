"""How far a schedule's score lies above that of the best one, on the same images and noises."""

import math
from dataclasses import dataclass

from torch import Tensor

TINY = 1e-300
LARGE = 0.01
ERRORS = 2


def is_local_minimum(gap: float, standard_error: float | None) -> bool:
    """Whether a gap, a share, is above 1 % and above twice its standard error, where there is one."""
    return gap > LARGE and gap > ERRORS * (standard_error or 0.0)


@dataclass(frozen=True)
class OptimalityGap:
    """(score − best score) / |best score| with its standard error, from paired differences over images.

    Attributes:
        value: the share; below 0 where the schedule beats the best one of the table on other images.
        standard_error: of the mean difference, over |best score|.
        n_images: the images behind it.
    """

    value: float
    standard_error: float
    n_images: int

    @classmethod
    def of(cls, losses: Tensor, best: Tensor) -> "OptimalityGap":
        """From two schedules' losses of the same images, float64 [N], N at least 2."""
        scale, difference = max(abs(best.mean().item()), TINY), losses - best
        error = difference.std().item() / math.sqrt(len(difference))
        return cls(difference.mean().item() / scale, error / scale, len(difference))

    @property
    def local_minimum(self) -> bool:
        """Whether the gap is above 1 % and above twice its error."""
        return is_local_minimum(self.value, self.standard_error)
