"""Five lines for somebody with a model in a notebook."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fewstep.artefacts.statistics import estimator_class
from fewstep.denoiser import Denoiser
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.likelihood import check_images
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import Search, check_steps


def find_schedule(
    denoiser: Denoiser | Callable[..., Tensor],
    process: Process,
    images: Tensor,
    steps: Sequence[int],
    objective: str | Objective | None = "elbo",
    search: str | Search = "dp",
    *,
    parameterisation: str | None = None,
    levels: int = 256,
    labels: Tensor | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> dict[int, Schedule]:
    """The best schedule of a trained model for every K in `steps`.

    One network call per image and timestep estimates what the objective needs; the search itself calls no
    network. 128 images are nearly always enough.

    Args:
        denoiser: a `Denoiser`, or any callable (x_t, time) → output or (x_t, time, label) → output, with x_t
            float32 [B, C, H, W] (the dtype of its parameters, where it has some) and time [B]: the timestep
            0 … T − 1 for `eps`, `v` and `x0`, ln(σ)/4 for `edm`.
        process: the forward process that it was trained on.
        images: training images, float [N, C, H, W] in [-1, 1] on `levels` grey levels, on any device.
        steps: the K's.
        objective: its name or an instance; None for a fixed rule.
        search: its name or an instance.
        parameterisation: what a plain callable returns: `eps`, `v`, `x0` or `edm`; not for a `Denoiser`.
        levels: grey levels of the images.
        labels: int64 [N] where the model is class-conditional.
        batch_size: images per network call.
        seed: of the noise, one ε per image common to all timesteps.
        progress: show a progress bar.

    Returns:
        K → schedule; `schedule.save(path)`, `schedule.timesteps()` and `schedule.sigmas()` take it elsewhere.

    Raises:
        UserError: anything that does not fit; the sentence says what is allowed.
    """
    check_images(images, levels, "the images given")
    model = _denoiser(denoiser, process, parameterisation)
    check_steps(steps, process)
    judge: Objective | None = find("objectives", objective)() if isinstance(objective, str) else objective
    how: Search = find("search", search)() if isinstance(search, str) else search
    statistics: dict[str, Any] = {}
    if how.needs_objective and judge is not None:
        for kind in judge.needs:
            statistics[kind] = _estimate(kind, model, images, labels, levels, batch_size, seed, progress)
    return how(judge if how.needs_objective else None, statistics, model, list(steps))


def _denoiser(
    denoiser: Denoiser | Callable[..., Tensor], process: Process, parameterisation: str | None
) -> Denoiser:
    if isinstance(denoiser, Denoiser):
        if parameterisation is not None:
            raise UserError("A Denoiser states its own parameterisation; leave `parameterisation` out.")
        if denoiser.process != process:
            raise UserError(f"The denoiser was made for {denoiser.process!r}; given was {process!r}.")
        return denoiser
    if parameterisation is None:
        raise UserError("State what the network returns: parameterisation='eps', 'v', 'x0' or 'edm'.")
    return Denoiser(denoiser, process, parameterisation)


def _estimate(
    kind: str,
    denoiser: Denoiser,
    images: Tensor,
    labels: Tensor | None,
    levels: int,
    batch_size: int,
    seed: int,
    progress: bool,
) -> Statistics:
    process = denoiser.process
    estimator = estimator_class(kind)(
        images.cpu(),
        labels,
        split="train",
        levels=levels,
        indices=range(1, process.T + 1),
        seed=seed,
        batch_size=batch_size,
    )
    estimator.to(images.device)
    training = denoiser.training
    denoiser.eval()
    rows = tqdm(range(len(estimator)), desc="statistics", unit="timestep", disable=not progress)
    with torch.inference_mode():
        measured = [estimator.measure(denoiser, row) for row in rows]
    denoiser.train(training)
    statistics: Statistics = estimator.collect(process, measured)
    return statistics
