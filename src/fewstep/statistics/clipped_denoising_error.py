"""The denoising error of x̂_0 clipped to [−1, 1], and the decoder by pairs: improved-diffusion's convention."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fewstep.denoiser import Prediction
from fewstep.likelihood import discretised_gaussian_nats
from fewstep.process import Process
from fewstep.statistics.denoising_error import DenoisingErrorEstimator
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.pair_decoder import at_once, collect_pair_decoder, ends, interpolate

KIND = "clipped_denoising_error"


class ClippedDenoisingErrorEstimator(DenoisingErrorEstimator):
    """Measures `DenoisingError` with x̂_0 clipped everywhere, and the decoder's term by the first two nodes."""

    kind = KIND

    def sums(self, process: Process, row: int, prediction: Prediction) -> dict[str, Any]:
        """What is kept of a prediction of all images."""
        clipped = Prediction(prediction.x0.clamp(-1, 1), prediction.fraction)
        return super().sums(process, row, clipped) | {"pairs": self._pairs(process, self.indices[row], clipped)}

    def _pairs(self, process: Process, index: int, prediction: Prediction) -> tuple[Tensor, Tensor | None]:
        """Chebyshev coefficients in λ [n, images], for `posterior` and `beta`, and for `learned`."""
        low, high = (end.item() for end in ends(process, torch.tensor(index)))
        x0, predicted = self.images.flatten(1), prediction.x0.flatten(1)

        def nats(log_variances: Tensor, fraction: Tensor | None) -> Tensor:
            count, log_variances = len(log_variances), log_variances.to(x0.device)
            variance = log_variances[:, None, None].expand(-1, len(x0), 1)
            if fraction is not None:
                end = process.log_variance(process.grid[index]).to(x0.device)
                variance = fraction * end + (1 - fraction) * variance
            variance = variance.exp().reshape(count * len(x0), -1)
            images = x0.repeat(count, 1)
            return discretised_gaussian_nats(images, predicted.repeat(count, 1), variance, self.levels).reshape(
                count, -1
            )

        most = at_once(x0)
        of_process = interpolate(partial(nats, fraction=None), low, high, most)
        if prediction.fraction is None:
            return of_process, None
        return of_process, interpolate(partial(nats, fraction=prediction.fraction.flatten(1)), low, high, most)

    def collect(self, process: Process, measured: Any) -> DenoisingError:
        """The statistics from what `measure` returned for rows 0 … len − 1, in order."""
        collected = super().collect(process, measured)
        pairs = collect_pair_decoder([row["pairs"] for row in measured])
        return DenoisingError(**{**vars(collected), "pairs": pairs})


Estimator = ClippedDenoisingErrorEstimator
load = partial(DenoisingError.load, kind=KIND)
