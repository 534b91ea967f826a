"""What samples are judged by, as a kind of statistics: for the one objective that lowers the judge's own distance.

It is not measured like other kinds. A run that has such an objective hands its judge over (fewstep.shared).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments

KIND = "features"


@dataclass(frozen=True)
class SampleFeatures:
    """The judge.

    Attributes:
        extractor: has `features(images) -> [B, d]`, images in [-1, 1].
        reference: the moments of the reference's features.
        shape: (C, H, W) of images.
        levels: grey levels that samples are rounded to.
    """

    extractor: nn.Module
    reference: FeatureMoments
    shape: tuple[int, int, int]
    levels: int


class FeaturesEstimator:
    """There is nothing to estimate.

    Raises:
        UserError: always.
    """

    def __init__(self, *given: Any, **settings: Any) -> None:
        raise _of_runs()


def load(path: Path) -> SampleFeatures:
    """Nothing can be read but by the run whose judge it is.

    Raises:
        UserError: always.
    """
    raise _of_runs()


def _of_runs() -> UserError:
    return UserError(
        "The statistics 'features' are the judge of a run, which a notebook does not have; use the command, with "
        "schedule_optimizer=fid_coordinate."
    )


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = FeaturesEstimator
