"""Is the network at least as good as a linear filter at every timestep?"""

from collections.abc import Mapping
from typing import Any

from fewstep.data.base import Dataset, checked_images, image_numbers, part_of
from fewstep.noise import InitialNoise
from fewstep.results import Result
from fewstep.statistics.covariance import MOST_DIMENSIONS, UNCHECKED, DataCovariance
from fewstep.statistics.denoising_error import DenoisingError


def wiener_row(dataset: Dataset, measured: DenoisingError, labels: Mapping[str, Any]) -> Result:
    """The largest ratio over timesteps of e(t) to the Wiener denoiser's error, both on the same x_0 and ε.

    The standard error is that of the ratio at that timestep, e(t)'s over images divided by Wiener's error. Images
    of more dimensions than a covariance takes are not checked; the row `wiener_unchecked_dimensions` says so.
    """
    if measured.dimensions > MOST_DIMENSIONS:
        return Result(**labels, metric=UNCHECKED, value=measured.dimensions, split=measured.split)
    images = part_of(checked_images(dataset, measured.split), 0, measured.n_images)
    noise = InitialNoise(measured.seed, image_numbers(measured.split, len(images)), images.shape[1:])
    covariance = DataCovariance.of(checked_images(dataset, "train"))
    wiener = covariance.wiener_error(images, noise, measured.process.noise_level(measured.times))
    ratio = measured.error.mean(1) / wiener
    worst = int(ratio.argmax())
    spread = measured.spread[worst] / measured.n_images**0.5
    return Result(
        **labels,
        metric="wiener_ratio_max",
        value=ratio[worst].item(),
        standard_error=(spread / wiener[worst]).item(),
        n_images=measured.n_images,
        split=measured.split,
    )
