"""L_vlb: the variational bound itself, at importance-sampled timesteps (Nichol & Dhariwal 2021, §3.3)."""

from torch import Tensor

from fewstep.denoiser import Denoiser, Prediction
from fewstep.likelihood import bits_per_dim
from fewstep.losses.base import require_fraction
from fewstep.objectives.step_terms import image_step_nats
from fewstep.process import Process
from fewstep.time_distribution import SecondMomentTimes, TimeDistribution
from fewstep.variance import LearnedVariance


class VlbLoss:
    """`vlb`: steps · L(s, t) in bits/dim, whose mean over the steps is the bound without its prior.

    Mean and variance are trained by it alike. The prior's term has no weights in it and is left out.

    Args:
        levels: grey levels that the decoder discretises over.
    """

    name = "vlb"
    learns_variance = True
    weighs_steps = True

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def __call__(self, denoiser: Denoiser, x0: Tensor, s: Tensor, t: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The step's term of the bound for every image times `steps`, bits/dim, float64 [B]."""
        prediction = denoiser(denoiser.process.add_noise(x0, t, noise), t)
        require_fraction(prediction, self.name)
        return steps * image_step_bits(denoiser.process, s, t, x0, prediction, self.levels)

    def time_distribution(self, process: Process) -> TimeDistribution:
        """By the losses' second moments, which differ over times by many orders of magnitude."""
        return SecondMomentTimes(process)


def image_step_bits(
    process: Process, s: Tensor, t: Tensor, x0: Tensor, prediction: Prediction, levels: int
) -> Tensor:
    """L(s, t) of every image under the learned variance, bits/dim, float64 [B]."""
    nats = image_step_nats(process, s, t, x0, prediction, LearnedVariance(), levels)
    bits = bits_per_dim(nats, x0[0].numel())
    assert isinstance(bits, Tensor)
    return bits
