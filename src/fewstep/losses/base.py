"""What every training loss offers. A new loss is one file that has these methods."""

from typing import Protocol

from torch import Tensor

from fewstep.denoiser import Denoiser, Prediction
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.time_distribution import TimeDistribution


class Loss(Protocol):
    """What a denoiser is trained to lower.

    Attributes:
        name: the loss's word in configs and tables.
        learns_variance: whether the network must have learned a variance, or rather must be about to.
        weighs_steps: whether it weighs a step's error as the bound does, rather than every time alike.
    """

    name: str
    learns_variance: bool
    weighs_steps: bool

    def __call__(self, denoiser: Denoiser, x0: Tensor, s: Tensor, t: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The loss of every image, [B].

        Args:
            denoiser: called once, on x_t; where it takes labels, it has been given those of x0.
            x0: images [B, C, H, W].
            s: float64 [B], the lower neighbour of each t among the times in use; 0 below the first.
            t: float64 [B].
            noise: ε, of x0's shape.
            steps: how many steps (s, t) the times in use make: T on the whole grid, K on a schedule.
        """
        ...

    def time_distribution(self, process: Process) -> TimeDistribution:
        """The distribution of times that it is trained with on the whole grid."""
        ...


def require_fraction(prediction: Prediction, name: str) -> None:
    """Raise a UserError unless the network has learned a variance, which the loss called `name` trains."""
    if prediction.fraction is None:
        raise UserError(
            f"The loss {name!r} trains a learned variance, but the network returns none: it needs "
            "twice as many output channels as the images have, as model=unet_digits_learned has; or set "
            "loss@pretrain.loss=simple."
        )
