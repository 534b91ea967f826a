"""Moments of features in other people's files: `.npz` with `mu` and `sigma`, as EDM and others publish them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments

ROUNDING = 1e-5  # of the largest entry or eigenvalue: what sums in float32 leave


def read_reference_file(path: Path, num_features: int, n: int | None) -> FeatureMoments:
    """The moments in a file.

    Args:
        path: of the `.npz`; `mu` [d] and `sigma` [d, d] are read, anything else in it is left alone.
        num_features: d.
        n: of how many images they are; None where nobody stated it.

    Raises:
        UserError: it is no such file, or does not hold the mean and the covariance of d features: finite,
            symmetric and positive semi-definite to rounding.
    """
    d = num_features
    mean, covariance = _array(path, "mu", (d,)), _array(path, "sigma", (d, d))
    largest = covariance.abs().max()
    if (covariance - covariance.T).abs().max() > ROUNDING * largest:
        raise UserError(f"In the reference {path} sigma is no covariance: it is not symmetric.")
    covariance = (covariance + covariance.T) / 2
    eigenvalues = torch.linalg.eigvalsh(covariance)
    if eigenvalues[0] < -ROUNDING * eigenvalues[-1].clamp(min=0):
        raise UserError(
            f"In the reference {path} sigma is no covariance: its least eigenvalue is {eigenvalues[0]:.3g}, its "
            f"largest {eigenvalues[-1]:.3g}."
        )
    return FeatureMoments(mean, covariance, n)


def _array(path: Path, name: str, shape: tuple[int, ...]) -> Tensor:
    """A real, finite array of a file, float64."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise TypeError("it is a single array")
        with archive:
            array = archive.get(name)
    except Exception as error:  # the readers of zip files and headers raise whatever a damaged byte leads to
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UserError(f"The reference {path} cannot be read as .npz ({reason}).") from None
    if array is None:
        raise UserError(f"The reference {path} holds no {name}; allowed is an .npz with mu and sigma.")
    if array.shape != shape:
        raise UserError(f"In the reference {path} {name} has shape {list(array.shape)}, not {list(shape)}.")
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"In the reference {path} {name} holds {array.dtype}, not real numbers.")
    if not np.isfinite(array).all():
        raise UserError(f"In the reference {path} {name} holds NaN or infinity.")
    return torch.from_numpy(array.astype(np.float64))
