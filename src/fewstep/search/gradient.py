"""Gradient descent on a schedule's times: for any objective with a loss that is differentiable in them.

K free gaps of continuous time (fewstep.search.free_gaps) descend by Adam on minibatches of the `samples`, from the
best of several starts; `validation_samples` stop the descents, choose among them, and measure how far the result
lies above dp's optimum. Learning times by gradient is reported unstable (Align Your Steps, appendix B.1), hence
the starts, the warm-up, and the check of the network between its timesteps.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fewstep.calls import Calls
from fewstep.cores import spread
from fewstep.data.base import data_std
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import check_seed
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps
from fewstep.search.between_timesteps import between_timesteps, most_calls
from fewstep.search.descent import Descended, Descent
from fewstep.search.free_gaps import FreeGaps, log_snr_ends
from fewstep.search.optimality_gap import OptimalityGap
from fewstep.search.sampled_loss import SampledLoss, frozen
from fewstep.search.starts import DP, STARTS, optimal_schedules, rule_schedules
from fewstep.statistics.samples import KIND as SAMPLES
from fewstep.statistics.validation_samples import KIND as VALIDATION_SAMPLES

log = logging.getLogger(__name__)

DELAY = 3.0  # seconds before a bar appears


class Gradient:
    """`gradient`: Adam on K gaps of time between half a grey level and T; the result is snapped to the grid.

    Args:
        levels: grey levels of the data, for σ̄_0; None: those of the samples.
        data_std: of the data per pixel, for the axis of the gaps and the tangent start; None: that of the samples.
        iterations: of one descent, at most.
        learning_rate: the largest change per iteration of the logarithm of a gap's share.
        warmup: iterations over which the learning rate rises.
        batch_size: images per iteration; the samples are gone through in rotation, the same at every descent.
        validate_every: iterations between validations.
        patience: validations without a better score before a descent stops.
        starts: names of `STARTS`; `dp` is left out where the objective has no table.
        descents: how many of the starts are descended, those that rank best.
        seed: of the order of the samples.

    Raises:
        UserError: a setting that is none of these.
    """

    name = "gradient"
    needs_objective = True
    needs: Sequence[str] = (SAMPLES, VALIDATION_SAMPLES)

    def __init__(
        self,
        levels: int | None = None,
        data_std: float | None = None,
        iterations: int = 40,
        learning_rate: float = 0.35,
        warmup: int = 3,
        batch_size: int = 32,
        validate_every: int = 10,
        patience: int = 3,
        starts: Sequence[str] = STARTS,
        descents: int = 2,
        seed: int = 0,
    ) -> None:
        counts = {
            "iterations": (iterations, 1),
            "warmup": (warmup, 0),
            "batch_size": (batch_size, 1),
            "validate_every": (validate_every, 1),
            "patience": (patience, 1),
            "descents": (descents, 1),
        }
        for setting, (value, least) in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise _refused(setting, value, f"a whole number of at least {least}")
        if levels is not None and levels < 2:
            raise _refused("levels", levels, "at least 2")
        if data_std is not None and not 0 < data_std < float("inf"):
            raise _refused("data_std", data_std, "positive and finite")
        if not 0 < learning_rate < float("inf"):
            raise _refused("learning_rate", learning_rate, "positive and finite")
        if isinstance(starts, str) or not starts or not set(starts) <= set(STARTS):
            raise _refused("starts", starts, f"a list of some of {', '.join(STARTS)}")
        check_seed(seed, "the gradient search's seed")
        self.levels, self.data_std, self.batch_size = levels, data_std, batch_size
        self.starts, self.descents, self.seed = tuple(starts), descents, seed
        self.descent = Descent(iterations, learning_rate, warmup, validate_every, patience)

    def check(self, objective: Objective | None, process: Process) -> None:
        """Raise a UserError unless there is an objective with a differentiable loss, and a process with an end."""
        if objective is None:
            raise UserError("The search 'gradient' needs an objective; give one, such as discretization.")
        if not objective.differentiable:
            raise UserError(
                f"The search 'gradient' needs an objective with a loss that is differentiable in times, and "
                f"{objective.name!r} has none; take another search, such as dp."
            )
        if self.levels is not None:
            log_snr_ends(process, self.levels)

    def __call__(
        self, objective: Objective | None, statistics: Statistics, denoiser: Denoiser, steps: Sequence[int]
    ) -> dict[int, Schedule]:
        """The snapped schedules; `provenance["found"]` says what was found out on the way.

        Raises:
            UserError: no objective with a loss, steps that the grid does not allow, or a loss that is not finite.
        """
        self.check(objective, denoiser.process)
        assert objective is not None
        check_steps(steps, denoiser.process)
        loss = SampledLoss(objective, denoiser, statistics, self.batch_size, self.seed)
        with frozen(denoiser):
            return _Search(self, loss).schedules(steps)

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """At most: no patience ends a descent, and no two starts are alike."""
        assert objective is not None
        free = [K for K in steps if 1 < K < process.T]
        batch, validation = min(self.batch_size, images[SAMPLES]), images[VALIDATION_SAMPLES]
        ranked = 0 if objective.additive else len(self.starts) * batch
        calls = most_calls(batch).at_most() if free else Calls()
        for per_image in map(objective.loss_calls, free):
            calls += Calls(per_image * (ranked + validation))  # dp's schedule
            for _ in self.starts[: self.descents]:
                calls += self.descent.most_calls(per_image, batch, validation) + Calls(per_image * validation)
        return calls


@dataclass(frozen=True)
class _Start:
    """A start of K steps as logits, and what it scores."""

    name: str
    K: int
    logits: Tensor
    score: float


class _Search:
    """One search: its settings and the loss that it lowers."""

    def __init__(self, settings: Gradient, loss: SampledLoss) -> None:
        self.settings, self.loss = settings, loss
        self.objective, self.denoiser = loss.objective, loss.denoiser
        self.process: Process = loss.denoiser.process
        self.levels = loss.samples.levels if settings.levels is None else settings.levels
        self.data_std = data_std(loss.samples.x0) if settings.data_std is None else settings.data_std

    def schedules(self, steps: Sequence[int]) -> dict[int, Schedule]:
        """K → the snapped schedule; of one step, or of T, there is no other."""
        free = [K for K in steps if 1 < K < self.process.T]
        between = self._between_timesteps() if free else {}
        best = optimal_schedules(self.objective, self.loss.statistics, self.denoiser, free) if free else {}
        starts = {K: self._starts(K, best.get(K)) for K in free}
        chosen = [start for K in free for start in self._chosen(starts[K])]
        descended = [*zip(chosen, self._descend(chosen), strict=True)]
        found: dict[int, Schedule] = {}
        for K in steps:
            if K in free:
                ends = {start.name: end for start, end in descended if start.K == K}
                scores = {start.name: start.score for start in starts[K]}
                found[K] = self._best(K, ends, best.get(K), {"starts": scores, "between_timesteps": between})
            else:
                path = [0, self.process.T] if K == 1 else range(K + 1)
                found[K] = self._schedule(path, {"only_schedule": True})
        return found

    def _between_timesteps(self) -> dict[str, Any]:
        """What the check of the network between its timesteps found."""
        found = between_timesteps(self.denoiser, self.loss.minibatch(0), self.levels)
        if found.wild:
            log.warning(
                "The network is wild between the timesteps that it was trained on: at the times %s the slope of "
                "its error is not the grid's own, so that times found by gradient may be off; prefer the search "
                "dp.",
                ", ".join(f"{time:.4f}" for time in found.wild),
            )
        return found.facts

    def _starts(self, K: int, best: Schedule | None) -> list[_Start]:
        """Every start with a finite score."""
        schedules = rule_schedules(self.settings.starts, self.denoiser, K, self.levels, self.data_std)
        if best is not None and DP in self.settings.starts:
            schedules[DP] = best
        gaps = self._gaps(K)
        projected = {name: gaps.logits(schedule.times) for name, schedule in schedules.items()}
        starts = [_Start(name, K, logits, self._rank(gaps, logits)) for name, logits in projected.items()]
        starts = [start for start in starts if math.isfinite(start.score)]
        if not starts:
            raise UserError(
                f"The gradient search has no start of {K} steps with a finite score among "
                f"{', '.join(self.settings.starts)}; give another, or other steps."
            )
        return starts

    def _rank(self, gaps: FreeGaps, logits: Tensor) -> float:
        """The value of the snapped start on the table, or its loss on the first minibatch where there is none."""
        times = gaps.times(logits)
        if self.objective.additive:
            snapped = Schedule.on_grid(gaps.snapped(times), self.process)
            return self.objective.value(self.loss.statistics, snapped, self.denoiser)
        with torch.no_grad():
            return self.loss.of_iteration(times, 0).item()

    def _chosen(self, starts: Sequence[_Start]) -> list[_Start]:
        """Those that rank best, no two alike."""
        chosen: list[_Start] = []
        for start in sorted(starts, key=lambda start: start.score):
            alike = any(torch.allclose(start.logits, other.logits, atol=1e-3) for other in chosen)
            if len(chosen) < self.settings.descents and not alike:
                chosen.append(start)
        return chosen

    def _descend(self, starts: Sequence[_Start]) -> list[Descended]:
        """Where each start comes to; on a CPU each has a core of its own."""
        total = len(starts) * self.settings.descent.iterations
        with tqdm(desc="gradient search", total=total, unit="iteration", delay=DELAY) as bar:

            def descend(start: _Start) -> Descended:
                gaps = self._gaps(start.K)
                return self.settings.descent(
                    start.logits,
                    lambda logits, iteration: self.loss.of_iteration(gaps.times(logits), iteration),
                    lambda logits: self.loss.of_validation(gaps.times(logits)),
                    bar.update,
                )

            on_cpu = self.loss.samples.x0.device.type == "cpu"
            return spread(descend, starts) if on_cpu else [descend(start) for start in starts]

    def _best(
        self, K: int, ends: Mapping[str, Descended], best: Schedule | None, facts: Mapping[str, Any]
    ) -> Schedule:
        """The end of a descent that is best once it lies on the grid, with what was found out about it."""
        gaps = self._gaps(K)
        times = {name: gaps.times(end.point) for name, end in ends.items()}
        paths = {name: gaps.snapped(times[name]) for name in ends}
        on_grid = {name: self.loss.of_validation_images(self.process.grid[path]) for name, path in paths.items()}
        name = min(on_grid, key=lambda name: on_grid[name].mean().item())
        path, losses = paths[name], on_grid[name]
        found = {
            **facts,
            "descents": {name: {"score": end.score, "iterations": end.iterations} for name, end in ends.items()},
            "start": name,
            "continuous": {"times": times[name].tolist(), "score": ends[name].score},
            "snapped": {"score": losses.mean().item()},
        }
        return self._schedule(path, found | self._against_optimum(K, losses, best))

    def _against_optimum(self, K: int, losses: Tensor, best: Schedule | None) -> dict[str, Any]:
        """How the losses of the validation images compare with those under dp's schedule."""
        if best is None:
            return {"no_optimum": "The objective is no sum over steps, or dp has no path on these statistics."}
        if self.objective.linearised:
            return {"no_optimum": "dp's schedule is the best of linearised objectives, not of this one."}
        of_best = self.loss.of_validation_images(best.times)
        gap = OptimalityGap.of(losses, of_best)
        if gap.local_minimum:
            log.warning(
                "The gradient search ended in a local minimum for %d steps: its schedule costs %.1f ± %.1f %% "
                "more than dp's.",
                *(K, 100 * gap.value, 100 * gap.standard_error),
            )
        return {
            "dp": {"score": of_best.mean().item()},
            "optimality_gap": {**asdict(gap), "split": self.loss.validation.split},
            "local_minimum": gap.local_minimum,
        }

    def _schedule(self, path: Sequence[int], found: Mapping[str, Any]) -> Schedule:
        provenance = {"search": self.settings.name, "objective": self.objective.name, "found": found}
        return Schedule.on_grid(path, self.process, provenance)

    def _gaps(self, K: int) -> FreeGaps:
        return FreeGaps(self.process, self.levels, self.data_std, K)


def _refused(setting: str, value: Any, allowed: str) -> UserError:
    return UserError(f"The gradient search's {setting} is {value!r}, but must be {allowed}.")
