"""The images and noises of the validation split, which stop a search, select, and measure its optimality gap."""

from pathlib import Path

from fewstep.statistics.samples import Samples, SamplesEstimator

KIND = "validation_samples"


class ValidationSamplesEstimator(SamplesEstimator):
    """`SamplesEstimator` of validation images; `of_split` says which split to take, whatever the others are of."""

    kind = KIND
    of_split = "validation"


def load(path: Path) -> Samples:
    """Read what `Samples.save` wrote.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    return Samples.load(path, KIND)


# What fewstep.artefacts.statistics looks up in every file of this folder.
Estimator = ValidationSamplesEstimator
