"""`DenoisingError` at every timestep of the grid from a few of them, by monotone cubics (PCHIP) in log-SNR.

Interpolated are means over images: log e(t), the decoder's terms, and for a learned variance log P and log H at
fixed relative positions of Δ (fewstep.statistics.fraction_sums), for the decoder by pairs at fixed relative
positions of λ. An image keeps its share of the mean, which moves linearly from one measured timestep to the next,
so that the mean over images is the interpolated mean, and what is made of per-image sums agrees with the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from fewstep.chebyshev import coefficients, evaluate, points
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.statistics.fraction_sums import FractionSums
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.pair_decoder import PairDecoder

SMALLEST = 1e-300  # stands for 0 in a logarithm


@dataclass(frozen=True, kw_only=True)
class InterpolatedDenoisingError(DenoisingError):
    """`DenoisingError` at all T timesteps, measured at some of them alone.

    Attributes:
        measured: what was measured; its rows stand in these statistics to the last bit.
    """

    measured: DenoisingError

    @property
    def n_images(self) -> int:
        """Number of images, those behind means too."""
        return self.measured.n_images

    def save(self, path: Path) -> None:
        """Refused: a file of statistics holds what was measured."""
        raise UserError("Interpolated statistics are not written to files; save what was measured instead.")


def interpolated(measured: DenoisingError, at: Sequence[int] | None = None) -> DenoisingError:
    """The statistics at grid indices, ascending, or at all timesteps; those given themselves where they hold all.

    The decoder's terms and the learned variance's sums are interpolated from t_2 on: at t_1 the decoder's variance
    is another one (fewstep.variance.additive_decoder), and no KL begins there.

    Raises:
        UserError: t_1, t_2 or t_T is not among the timesteps measured.
    """
    process = measured.process
    if len(measured.indices) == process.T:
        return measured
    if not {1, 2, process.T} <= set(measured.indices.tolist()):
        raise UserError(
            f"Statistics are interpolated between the timesteps 1, 2 and {process.T} of the grid, which must be "
            f"measured; given were {measured.indices.tolist()}."
        )
    wanted = torch.as_tensor(range(1, process.T + 1) if at is None else at)
    grid = _Interpolation(process, measured.indices, wanted)
    inner = _Interpolation(process, measured.indices[1:], wanted[wanted > 1])

    def from_second(values: Tensor) -> Tensor:
        found = inner.means_and_shares(values[1:], logarithmic=False)
        return torch.cat([values[: len(wanted) - len(found)], found])

    means = grid.means(measured.fitted_error, logarithmic=True)
    whole: dict[str, object] = {
        "indices": wanted,
        "error": grid.means_and_shares(measured.error, logarithmic=True),
        "decoder_of_process": from_second(measured.decoder_of_process),
        "decoder_of_error": grid.means_and_shares(measured.decoder_of_error, logarithmic=False),
        "fitted_error": means,
        "error_spread": None,  # known where it was measured
    }
    if measured.fraction is not None:
        assert measured.decoder_of_fraction is not None
        whole["decoder_of_fraction"] = from_second(measured.decoder_of_fraction)
        whole["fraction"] = _fraction(process, inner, measured.fraction, int((wanted == 1).sum()))
    if measured.pairs is not None:
        whole["pairs"] = _pairs(from_second, measured.pairs)
    kept = {field.name: getattr(measured, field.name) for field in fields(DenoisingError)}
    return InterpolatedDenoisingError(**(kept | whole), measured=measured)


class _Interpolation:
    """From measured timesteps to others between the first and the last of them.

    Args:
        process: the process.
        indices: int64 [N], the grid indices measured, ascending.
        wanted: int64 [M], those that values are wanted at, ascending.
    """

    def __init__(self, process: Process, indices: Tensor, wanted: Tensor) -> None:
        self.indices, self.wanted = indices, wanted
        place = torch.searchsorted(indices, wanted).clamp(max=len(indices) - 1)
        self.rows = (indices[place] == wanted).nonzero().flatten()  # of the wanted ones those that are measured
        self.sources = place[self.rows]
        axis = -process.log_snr_axis()
        self._nodes, self._position = axis[indices - 1], axis[wanted - 1]
        self.below = (torch.searchsorted(indices, wanted, right=True) - 1).clamp(max=len(indices) - 2)
        left, right = self._nodes[self.below], self._nodes[self.below + 1]
        self.weight = (self._position - left) / (right - left)

    def means(self, values: Tensor, *, logarithmic: bool) -> Tensor:
        """The monotone cubic through `values` [N, …], or through their logarithms; [M, …]."""
        transformed = values.clamp(min=SMALLEST).log() if logarithmic else values
        found = torch.from_numpy(self._curve(transformed.numpy()))
        return self._kept(found.exp() if logarithmic else found, values)

    def means_and_shares(self, values: Tensor, *, logarithmic: bool) -> Tensor:
        """The means of `values` [N, …, images], and every image's share of them; [M, …, images]."""
        mean = values.mean(-1, keepdim=True)
        share = torch.where(mean != 0, values / mean, 1.0)
        return self._kept(self.means(mean, logarithmic=logarithmic) * self.linear(share), values)

    def linear(self, values: Tensor) -> Tensor:
        """The line from each measured value to the next, [N, …] → [M, …]."""
        weight = self.weight.reshape(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[self.below], values[self.below + 1], weight)

    def _curve(self, values: np.ndarray) -> np.ndarray:
        return PchipInterpolator(self._nodes.numpy(), values, axis=0)(self._position.numpy())

    def _kept(self, found: Tensor, values: Tensor) -> Tensor:
        """What was measured stays, to the last bit."""
        found[self.rows] = values[self.sources]
        return found


def _fraction(process: Process, inner: _Interpolation, measured: FractionSums, first: int) -> FractionSums:
    """log P and log H at n points of Δ, evenly placed between 0 and its largest value; the `first` as they are."""
    centre, a = measured.centre[1:], measured.coefficients[1:]
    n = max(2, a.shape[1])
    x = points(n)
    values = evaluate(a.movedim(1, 0)[:, None], x[:, None, None, None])  # [n, N, 2, images]

    def length(indices: Tensor) -> Tensor:
        return process.log_variance(process.grid[indices]) - process.log_variance(process.grid[1])

    growth = torch.exp((centre * length(inner.indices))[:, None] * (x + 1) / 2)[..., None, None]  # [N, n, 1, 1]
    sums = inner.means_and_shares(values.movedim(0, 1) / growth, logarithmic=True)
    centres = inner.linear(centre)
    growth = torch.exp((centres * length(inner.wanted))[:, None] * (x + 1) / 2)[..., None, None]
    found = coefficients((sums * growth).movedim(1, 0)).movedim(0, 1)
    whole = torch.nn.functional.pad(measured.coefficients, (0, 0, 0, 0, 0, n - a.shape[1]))
    found[inner.rows] = whole[1:][inner.sources]
    found = torch.cat([whole[:first], found])
    return FractionSums(
        centre=torch.cat([measured.centre[:first], centres]), coefficients=found, mean=found.mean(3)
    )


def _pairs(from_second: Callable[[Tensor], Tensor], measured: PairDecoder) -> PairDecoder:
    """The term at n points of λ, evenly placed between its ends at n_1."""

    def whole(a: Tensor) -> Tensor:
        n = max(2, a.shape[1])
        values = evaluate(a.movedim(1, 0)[:, None], points(n)[:, None, None])  # [n, N, images]
        return coefficients(from_second(values.movedim(0, 1)).movedim(1, 0)).movedim(0, 1)

    of_fraction = None if measured.of_fraction is None else whole(measured.of_fraction)
    return PairDecoder(of_process=whole(measured.of_process), of_fraction=of_fraction)
