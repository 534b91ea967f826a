"""L_hybrid = L_simple + λ L_vlb, the bound training the variance alone (Nichol & Dhariwal 2021, eq. 16)."""

from torch import Tensor

from fewstep.denoiser import Denoiser, Prediction
from fewstep.errors import UserError
from fewstep.losses.base import require_fraction
from fewstep.losses.simple import output_error
from fewstep.losses.vlb import image_step_bits
from fewstep.process import Process
from fewstep.time_distribution import TimeDistribution, UniformTimes


class HybridLoss:
    """`hybrid`: the error of the network's output + λ · steps · L(s, t), at times drawn uniformly.

    L_simple is the mean over dimensions and L_vlb = Σ L(s, t), the sum over steps, in bits/dim: with λ = 0.001
    what improved-diffusion's code computes, whose factor T/1000 is λ T. The mean in L(s, t) is a constant: no
    gradient flows through it.

    Args:
        levels: grey levels that the decoder discretises over.
        vlb_weight: λ.
    """

    name = "hybrid"
    learns_variance = True
    weighs_steps = False

    def __init__(self, levels: int, vlb_weight: float = 1e-3) -> None:
        if not vlb_weight > 0:
            raise UserError(f"The hybrid loss's vlb_weight is {vlb_weight}, but must be positive.")
        self.levels = levels
        self.vlb_weight = vlb_weight

    def __call__(self, denoiser: Denoiser, x0: Tensor, s: Tensor, t: Tensor, noise: Tensor, steps: int) -> Tensor:
        """The loss of every image, float64 [B]."""
        prediction = denoiser(denoiser.process.add_noise(x0, t, noise), t)
        require_fraction(prediction, self.name)
        mean_is_constant = Prediction(prediction.x0.detach(), prediction.fraction)
        bits = image_step_bits(denoiser.process, s, t, x0, mean_is_constant, self.levels)
        return output_error(denoiser, x0, t, prediction) + self.vlb_weight * steps * bits

    def time_distribution(self, process: Process) -> TimeDistribution:
        """Uniform."""
        return UniformTimes(process)
