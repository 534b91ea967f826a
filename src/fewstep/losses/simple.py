"""L_simple: the squared error of the network's own output (Ho et al. 2020, eq. 14)."""

from torch import Tensor

from fewstep.denoiser import Denoiser, Prediction
from fewstep.process import Process
from fewstep.time_distribution import TimeDistribution, UniformTimes


class SimpleLoss:
    """`simple`: the mean squared error of the network's output per dimension, at times drawn uniformly.

    For the eps parameterisation that is Ho et al.'s ‖ε − ε̂‖²/D; for edm Karras et al.'s loss with its λ(σ).
    A learned variance is not trained.
    """

    name = "simple"
    learns_variance = False
    weighs_steps = False

    def __call__(self, denoiser: Denoiser, x0: Tensor, s: Tensor, t: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The error of every image, [B]; neither `s` nor `steps` plays a part."""
        prediction = denoiser(denoiser.process.add_noise(x0, t, noise), t)
        return output_error(denoiser, x0, t, prediction)

    def time_distribution(self, process: Process) -> TimeDistribution:
        """Uniform."""
        return UniformTimes(process)


def output_error(denoiser: Denoiser, x0: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
    """loss_weight(t) ‖x_0 − x̂_0(x_t)‖²/D per image, [B]: the squared error of the network's own output."""
    weight = denoiser.loss_weight(t).to(x0.dtype)
    return weight * (x0 - prediction.x0).square().flatten(1).mean(1)
