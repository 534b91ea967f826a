"""One image's term of the negative ELBO: the KL divergence of a step (s, t), or the decoder's −log p(x_0 | x_t).

The same for every variance kind, and differentiable in the network's prediction; nats, float64.
"""

import torch
from torch import Tensor

from fewstep.denoiser import Prediction
from fewstep.likelihood import discretised_gaussian_nats
from fewstep.process import Process
from fewstep.variance import Variance


def image_step_nats(
    process: Process, s: Tensor, t: Tensor, x0: Tensor, prediction: Prediction, variance: Variance, levels: int
) -> Tensor:
    """L(s, t) of every image, nats, float64 [B]; the additive decoder's term where s = 0.

    Over pixels Σ ½ [r − 1 + e^{−r} + (SNR_s − SNR_t) (x_0 − x̂_0)² e^{−r}] with r = log σ_p²/σ̃²: the divergence
    of Gaussians with diagonal covariances (Watson et al. 2021). A learned variance has r = f log σ²_{t|s}/σ̃².

    Args:
        process: the forward process.
        s: the steps' lower times, float64, a scalar or [B]; 0 for the decoder's term.
        t: their upper times, a scalar or [B]; s < t.
        x0: images [B, …] in [-1, 1].
        prediction: the network's, of x_t.
        variance: the model's variance kind, σ_p².
        levels: grey levels that the decoder discretises over.

    Raises:
        UserError: the variance kind is learned and the prediction has no fraction.
    """
    s, t = (torch.as_tensor(time, dtype=torch.float64, device=x0.device).expand(len(x0)) for time in (s, t))
    x0, predicted = x0.to(torch.float64), prediction.x0.to(torch.float64)
    fraction = None if prediction.fraction is None else prediction.fraction.to(torch.float64)
    nats = x0.new_zeros(len(x0))
    for rows, to_data in ((s == 0, True), (s > 0, False)):
        if bool(rows.any()):
            lower, upper = (time[rows].reshape(-1, *[1] * (x0.ndim - 1)) for time in (s, t))
            f = None if fraction is None else fraction[rows]
            if to_data:
                decoder = variance.decoder(process, upper, f)
                nats[rows] = discretised_gaussian_nats(x0[rows], predicted[rows], decoder, levels)
            else:
                log_ratio = variance.log_ratio(process, lower, upper, f)
                squared_error = (x0[rows] - predicted[rows]).square()
                nats[rows] = _divergence(log_ratio, process.snr_gained(lower, upper) * squared_error)
    return nats


def _divergence(log_ratio: Tensor, distance: Tensor) -> Tensor:
    """KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)) per image: `distance` [B, …] is that of the means, squared, over σ̃²."""
    return 0.5 * (log_ratio + torch.expm1(-log_ratio) + distance * torch.exp(-log_ratio)).flatten(1).sum(1)
