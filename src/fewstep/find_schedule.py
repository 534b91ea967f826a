"""Five lines for somebody with a model in a notebook."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fewstep.artefacts.statistics import StatisticsSettings, estimator_class, grows, split_of
from fewstep.data.base import Images, check_labels, check_set, part_of
from fewstep.denoiser import Denoiser, evaluating
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.noise import check_seed
from fewstep.objectives.base import NATS, Objective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import Search, check_steps
from fewstep.statistics.growing import FIRST_IMAGES, GrowingStatistics, Needs, grow
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.streaming import estimator_of

TRAIN = "train"


def find_schedule(
    denoiser: Denoiser | Callable[..., Tensor],
    process: Process,
    images: Images,
    steps: Iterable[int],
    objective: str | Objective | None = "elbo",
    search: str | Search = "dp",
    *,
    parameterisation: str | None = None,
    levels: int = 256,
    labels: Tensor | None = None,
    timesteps: str = "auto",
    standard_error: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> dict[int, Schedule]:
    """The best schedule of a trained model for every K in `steps`.

    What the objective needs is estimated with one network call per image at some 40 of the timesteps, and
    interpolated in between. The search `gradient`, and `coordinate` with an objective that runs the sampler, as
    `teacher_distance` does, call the network besides. 128 images are nearly always enough. For a search that needs
    validation samples, as `gradient` does, the last quarter of the images is held out as such, and the objective's
    statistics are of the others alone.

    Args:
        denoiser: a `Denoiser`, or any callable (x_t, time) → output or (x_t, time, label) → output, with x_t
            float32 [B, C, H, W] (the dtype of its parameters, where it has some) and time [B]: the timestep
            0 … T − 1 for `eps`, `v` and `x0`, ln(σ)/4 for `edm`.
        process: the forward process that it was trained on.
        images: training images, float [N, C, H, W] in [-1, 1] on `levels` grey levels: a tensor on any device, or
            what indexes like one (fewstep.data.base.Images), of which no more is read than fits memory.
        steps: the K's.
        objective: its name or an instance; None for a fixed rule.
        search: its name or an instance.
        parameterisation: what a plain callable returns: `eps`, `v`, `x0` or `edm`; not for a `Denoiser`.
        levels: grey levels of the images.
        labels: int64 [N] where the model is class-conditional.
        timesteps: `auto`: as many as it takes for schedules that cost at most 0.01 bits/dim more than with all of
            them, as checks of the interpolation bound it (a hundredth of the cost for objectives that are not in
            bits/dim; fewstep.statistics.refinement); `all`: every timestep of the process.
        standard_error: use only as many of the images, from the first, as bring the standard error of the
            schedules' bits/dim below this; None: all of them.
        batch_size: images per network call.
        seed: of the noise, one ε per image common to all timesteps.
        progress: show a progress bar.

    Returns:
        K → schedule; `schedule.save(path)`, `schedule.timesteps()` and `schedule.sigmas()` take it elsewhere.

    Raises:
        UserError: anything that does not fit; the sentence says what is allowed.
    """
    check_set(images, levels, "the argument `images`")
    check_seed(seed, "seed")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1.")
    model = _denoiser(denoiser, process, parameterisation)
    _check_labels(labels, len(images), model)
    wanted = _whole_numbers(steps)
    check_steps(wanted, process)
    judge: Objective | None = find("objectives", objective)() if isinstance(objective, str) else objective
    how: Search = find("search", search)() if isinstance(search, str) else search
    how.check(judge, process)
    needs = _needs(timesteps, standard_error)
    statistics: dict[str, Any] = {}
    if how.needs_objective and judge is not None:
        kinds = dict.fromkeys([*how.needs, *judge.needs])
        n_held_out = _held_out(kinds, len(images))
        for kind in kinds:
            split = split_of(kind, TRAIN)
            first = len(images) - n_held_out
            rows = slice(first, len(images)) if split != TRAIN else slice(0, first)
            chosen = None if labels is None else labels[rows]
            part = part_of(images, rows.start, rows.stop)
            measuring = _Measuring(kind, split, model, part, chosen, levels, batch_size, seed, progress)
            statistics[kind] = _estimate(measuring, judge, wanted, needs)
    return how(judge if how.needs_objective else None, statistics, model, wanted)


def _held_out(kinds: Iterable[str], n: int) -> int:
    """How many images are held out as validation: a quarter where some kind is of that split, else none."""
    if all(split_of(kind, TRAIN) == TRAIN for kind in kinds):
        return 0
    if n < 8:
        raise UserError(
            f"This search holds out a quarter of the images as validation, so that it needs at least 8; "
            f"given were {n}."
        )
    return n // 4


def _whole_numbers(steps: Iterable[int]) -> list[int]:
    """The K's as plain integers, numpy's and torch's included."""
    try:
        return [K if isinstance(K, bool) else operator.index(K) for K in steps]
    except TypeError:
        raise UserError(f"steps is {steps!r}; it must be a list of whole numbers, such as [4, 8, 16].") from None


def _check_labels(labels: Tensor | None, n: int, model: Denoiser) -> None:
    if model.num_classes is not None and (labels is None or isinstance(labels, Tensor)):
        check_labels(labels, n, model.num_classes, "the argument `images`")
    if labels is not None and (not isinstance(labels, Tensor) or labels.shape != (n,)):
        given = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"The labels must be a tensor [{n}], one for each image; given was {given}.")


def _denoiser(
    denoiser: Denoiser | Callable[..., Tensor], process: Process, parameterisation: str | None
) -> Denoiser:
    if not isinstance(process, Process):
        raise UserError(f"The process must be a Process, such as Process.linear(1000); given was {process!r}.")
    if isinstance(denoiser, Denoiser):
        if parameterisation is not None:
            raise UserError("A Denoiser states its own parameterisation; leave `parameterisation` out.")
        if denoiser.process != process:
            raise UserError(f"The denoiser was made for {denoiser.process!r}; given was {process!r}.")
        return denoiser
    if not callable(denoiser):
        raise UserError(f"The denoiser must be a callable (x_t, time); given was a {type(denoiser).__name__}.")
    if parameterisation is None:
        raise UserError("State what the network returns: parameterisation='eps', 'v', 'x0' or 'edm'.")
    network = denoiser if isinstance(denoiser, nn.Module) else partial(_in_float32, denoiser)
    return Denoiser(network, process, parameterisation)


def _in_float32(function: Callable[..., Tensor], x: Tensor, time: Tensor, *label: Tensor) -> Tensor:
    """Call a plain function, whose parameters' dtype nobody can see, as most networks want to be called."""
    return function(x.float(), time.float(), *label)


def _needs(timesteps: str, standard_error: float | None) -> Needs:
    if timesteps not in ("auto", "all"):
        raise UserError(f"timesteps is {timesteps!r}; allowed are auto and all.")
    if standard_error is not None and not standard_error > 0:
        raise UserError(f"standard_error is {standard_error!r}; it must be positive, bits/dim, or None.")
    return Needs(StatisticsSettings.regret if timesteps == "auto" else None, standard_error)


@dataclass(frozen=True)
class _Measuring:
    """What a kind of statistics is measured on."""

    kind: str
    split: str
    denoiser: Denoiser
    images: Images
    labels: Tensor | None
    levels: int
    batch_size: int
    seed: int
    progress: bool

    def everything(self) -> Any:
        """The statistics of all images at all timesteps."""
        indices = range(1, self.denoiser.process.T + 1)
        measured_by = partial(estimator_of, self._make, means=True) if grows(self.kind) else self._make
        return self._run(measured_by(self.images, self.labels, indices=indices))

    def part(self, indices: Sequence[int], numbers: range, *, extensible: bool) -> Any:
        """The statistics of the images of some numbers at some grid indices, of a kind that grows."""
        estimator = estimator_of(
            self._make,
            part_of(self.images, numbers.start, numbers.stop),
            None if self.labels is None else self.labels[numbers.start : numbers.stop],
            indices=indices,
            first=numbers.start,
            extensible=extensible,
            means=not extensible,
        )
        return self._run(estimator)

    @property
    def _make(self) -> Callable[..., Any]:
        """(images, labels, indices=…) → what measures them."""
        return partial(
            estimator_class(self.kind),
            split=self.split,
            levels=self.levels,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def _run(self, estimator: Any) -> Any:
        parameters = self.denoiser.parameters()
        device = self.images.device if isinstance(self.images, Tensor) else torch.device("cpu")
        estimator.to(next((parameter.device for parameter in parameters), device))
        rows = tqdm(range(len(estimator)), desc="statistics", unit="timestep", disable=not self.progress)
        with evaluating(self.denoiser), torch.inference_mode():
            measured = [estimator.measure(self.denoiser, row) for row in rows]
        return estimator.collect(self.denoiser.process, measured)


def _estimate(measuring: _Measuring, objective: Objective, steps: Sequence[int], needs: Needs) -> Any:
    """The statistics of a kind at all timesteps, measured or interpolated."""
    kind, n = measuring.kind, len(measuring.images)
    alone = tuple(objective.needs) == (kind,)
    if needs == Needs(None, None) or not alone or not grows(kind):
        return measuring.everything()
    images_chosen = needs.standard_error is not None
    if images_chosen and objective.unit != NATS:
        raise UserError(
            f"standard_error needs an objective in bits/dim, such as elbo; {objective.name} is in "
            f"{objective.unit}. Leave standard_error out."
        )
    statistics = GrowingStatistics(
        partial(measuring.part, extensible=images_chosen), min(FIRST_IMAGES, n) if images_chosen else n
    )
    grown = grow(statistics, measuring.denoiser.process, [objective], kind, steps, needs, n)
    return interpolated(grown.measured)
