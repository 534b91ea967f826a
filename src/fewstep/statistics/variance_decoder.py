"""The decoder's term as a function of its variance: what lets other images join statistics later.

The variance of `optimal` is the mean error over all images, so every image's term changes when others join; its
network call is not repeated, because the term is held as a polynomial in the logarithm of the variance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.chebyshev import evaluate
from fewstep.errors import UserError
from fewstep.likelihood import discretised_gaussian_nats
from fewstep.statistics.pair_decoder import at_once, interpolate

REACH = math.log(16)  # how far the log-variance may move to either side


@dataclass(frozen=True, kw_only=True)
class VarianceDecoder:
    """−log p(x_0 | x_t) of N timesteps as Chebyshev coefficients in the log-variance, nats, float64.

    Attributes:
        centre: the log-variance in the middle of the interval, [N, images].
        coefficients: [N, n, images]; zeros beyond a timestep's own number of points.
    """

    centre: Tensor
    coefficients: Tensor

    def nats(self, variance: Tensor) -> Tensor:
        """The terms [N, images] under variances [N].

        Raises:
            UserError: a variance is further than a factor 16 from the one that the images were measured with.
        """
        x = (variance.log()[:, None] - self.centre) / REACH
        if not bool((x.abs() <= 1).all()):
            raise UserError(
                "The denoising errors of the first images and of those that joined them differ by more than a "
                "factor of 16, so they cannot be joined; give statistics.images a number, and a smaller one."
            )
        return evaluate(self.coefficients.movedim(1, 0), x)


def measure_variance_decoder(
    x0: Tensor, predicted: Tensor, variance: Tensor, levels: int
) -> tuple[Tensor, Tensor]:
    """The centre, a scalar, and the coefficients [n, images] at one timestep.

    Args:
        x0: images [B, …].
        predicted: x̂_0, of the same shape.
        variance: the one in the middle, a scalar.
        levels: grey levels.
    """
    centre = variance.log()

    def nats(log_variances: Tensor) -> Tensor:
        count = len(log_variances)
        variances = log_variances.exp().to(x0.device).repeat_interleave(len(x0))
        images, means = (tensor.flatten(1).repeat(count, 1) for tensor in (x0, predicted))
        return discretised_gaussian_nats(images, means, variances[:, None], levels).reshape(count, -1)

    return centre, interpolate(nats, centre.item() - REACH, centre.item() + REACH, at_once(x0))


def collect_variance_decoder(measured: list[tuple[Tensor, Tensor]]) -> VarianceDecoder:
    """The decoder of all timesteps from what `measure_variance_decoder` returned for each."""
    n = max(len(a) for _, a in measured)
    padded = torch.stack([torch.nn.functional.pad(a, (0, 0, 0, n - len(a))) for _, a in measured])
    centre = torch.stack([centre for centre, _ in measured])
    return VarianceDecoder(centre=centre[:, None].expand(-1, padded.shape[2]).contiguous(), coefficients=padded)
