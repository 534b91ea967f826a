"""Statistics put together and taken apart, along timesteps and along images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fewstep.chebyshev import evaluate
from fewstep.process import Process
from fewstep.statistics.fraction_sums import FractionSums
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.pair_decoder import PairDecoder, interpolate
from fewstep.statistics.variance_decoder import VarianceDecoder

Join = Callable[[Tensor, Tensor], Tensor]
_OF_IMAGES = ("error", "decoder_of_process", "decoder_of_error", "decoder_of_fraction")


def selected_timesteps(statistics: DenoisingError, indices: Sequence[int]) -> DenoisingError:
    """The statistics at some of their timesteps, given by grid indices, ascending.

    Raises:
        UserError: the statistics lack one of them.
    """
    rows = statistics.rows(indices)

    def select(a: Tensor, _: Tensor) -> Tensor:
        return a[rows]

    parts = _parts(statistics, statistics, select)
    if statistics.fraction is not None:
        parts["fraction"] = _each(FractionSums, statistics.fraction, statistics.fraction, select)
    return replace(
        statistics,
        indices=statistics.indices[rows],
        fitted_error=statistics.fitted_error[rows],
        error_spread=None if statistics.error_spread is None else statistics.error_spread[rows],
        calls=statistics.n_images * len(rows),
        **parts,
    )


def joined_timesteps(one: DenoisingError, other: DenoisingError) -> DenoisingError:
    """The statistics of the same images at the timesteps of both, none of which they share."""
    indices, order = torch.cat([one.indices, other.indices]).sort()

    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat(_of_one_size(a, b))[order]

    parts = _parts(one, other, join)
    parts["fitted_error"] = join(one.fitted_error, other.fitted_error)
    if one.error_spread is not None and other.error_spread is not None:
        parts["error_spread"] = join(one.error_spread, other.error_spread)
    if one.fraction is not None and other.fraction is not None:
        parts["fraction"] = _each(FractionSums, one.fraction, other.fraction, join)
    return replace(one, indices=indices, calls=one.calls + other.calls, **parts)


def joined_images(one: DenoisingError, other: DenoisingError) -> DenoisingError:
    """The statistics of the images of both, at the timesteps that both are of.

    What measuring all images at once gives: to rounding, but for what comes out of polynomials, right to their
    bound of 1e-6 (`decoder_of_error` where `optimal` is fitted on these very images, and the learned variance's
    sums at timesteps where the parts' fractions spread differently).
    """

    def join(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat(_of_one_size(a, b), dim=-1)

    parts = _parts(one, other, join)
    if one.fraction is not None and other.fraction is not None:
        parts["fraction"] = _joined_fractions(one.process, one.indices, one.fraction, other.fraction)
    if "by_variance" in parts:
        fitted = parts["error"].mean(1) / one.dimensions
        parts |= {"fitted_error": fitted, "decoder_of_error": parts["by_variance"].nats(fitted)}
    return replace(one, prior=torch.cat([one.prior, other.prior]), calls=one.calls + other.calls, **parts)


def averaged(statistics: DenoisingError) -> DenoisingError:
    """The means over images, as one image that stands for all."""
    if statistics.error_spread is not None:
        return statistics

    def average(a: Tensor, _: Tensor) -> Tensor:
        return a.mean(-1, keepdim=True)

    parts = _parts(statistics, statistics, average)
    if statistics.fraction is not None:
        coefficients = statistics.fraction.mean[..., None]
        parts["fraction"] = replace(statistics.fraction, coefficients=coefficients)
    prior = average(statistics.prior, statistics.prior)
    return replace(statistics, prior=prior, error_spread=statistics.spread, **parts)


def _parts(one: DenoisingError, other: DenoisingError, join: Join) -> dict[str, Any]:
    """All that is joined alike along timesteps and along images."""
    parts: dict[str, Any] = {}
    for name in _OF_IMAGES:
        if getattr(one, name) is not None:
            parts[name] = join(getattr(one, name), getattr(other, name))
    if one.pairs is not None and other.pairs is not None:
        parts["pairs"] = _each(PairDecoder, one.pairs, other.pairs, join)
    if one.by_variance is not None and other.by_variance is not None:
        parts["by_variance"] = _each(VarianceDecoder, one.by_variance, other.by_variance, join)
    return parts


def _each(kind: Callable[..., Any], one: Any, other: Any, join: Join) -> Any:
    """A part whose every tensor is joined."""
    return kind(**{name: a if a is None else join(a, vars(other)[name]) for name, a in vars(one).items()})


def _of_one_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [N, n, …] with zeros up to the same n; other tensors as they are."""
    if a.ndim < 3:
        return a, b
    n = max(a.shape[1], b.shape[1])
    behind = (0, 0) * (a.ndim - 2)
    return pad(a, (*behind, 0, n - a.shape[1])), pad(b, (*behind, 0, n - b.shape[1]))


def _joined_fractions(process: Process, indices: Tensor, one: FractionSums, other: FractionSums) -> FractionSums:
    """At timesteps whose centres differ, both parts' polynomials are made anew around the mean of the two."""
    centre = (one.centre + other.centre) / 2
    length = process.log_variance(process.grid[indices]) - process.log_variance(process.grid[1])
    length = torch.where(indices > 1, length, 1.0)  # as at t_1, which no KL begins at
    rows = []
    for row in range(len(indices)):
        a, b = (_around(part, row, centre[row], length[row].item()) for part in (one, other))
        rows.append(torch.cat(_of_one_size(a[None], b[None]), dim=-1)[0])
    n = max(len(a) for a in rows)
    whole = torch.stack([pad(a, (0, 0, 0, 0, 0, n - len(a))) for a in rows])
    return FractionSums(centre=centre, coefficients=whole, mean=whole.mean(3))


def _around(part: FractionSums, row: int, centre: Tensor, length: float) -> Tensor:
    """One timestep's coefficients [n, 2, images] of e^{cΔ}P and e^{cΔ}H for another c."""
    a, moved = part.coefficients[row], centre - part.centre[row]
    if moved == 0:
        return a

    def values(delta: Tensor) -> Tensor:
        x = (2 * delta / length - 1)[:, None, None].clamp(-1, 1)
        found: Tensor = torch.exp(moved * delta)[:, None, None] * evaluate(a[:, None], x)
        return found.flatten(1)

    return interpolate(values, 0.0, length).reshape(-1, *a.shape[1:])
