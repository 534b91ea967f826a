"""The gradient search of one loss: from the best of its starts to the best end on the grid.

Ranks share the descents, each of which one of them makes by itself, so that its numbers are those of one process;
rank 0 does the rest for all.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from fewstep.cores import spread
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.ranks import of_first, rank, shared_out
from fewstep.schedule import Schedule
from fewstep.search.between_timesteps import between_timesteps
from fewstep.search.descent import Descended, Descent
from fewstep.search.free_gaps import FreeGaps
from fewstep.search.optimality_gap import OptimalityGap
from fewstep.search.sampled_loss import SampledLoss
from fewstep.search.starts import DP, optimal_schedules, rule_schedules

log = logging.getLogger(__name__)

NAME = "gradient"
DELAY = 3.0  # seconds before a bar appears


@dataclass(frozen=True)
class _Start:
    """A start of K steps as logits, and what it scores."""

    name: str
    K: int
    logits: Tensor
    score: float


@dataclass(frozen=True)
class _End:
    """Where the descent from a start came to, and there on the grid the losses of the validation images."""

    start: _Start
    descended: Descended
    times: Tensor
    path: Sequence[int]
    losses: Tensor


class Descents:
    """Descents from some of several starts, for each K.

    Args:
        loss: what is lowered.
        descent: how.
        starts: names of starts, all of which are ranked.
        descents: how many of them are descended.
        levels: grey levels of the data, for σ̄_0.
        data_std: of the data per pixel.
    """

    def __init__(
        self,
        loss: SampledLoss,
        descent: Descent,
        starts: Sequence[str],
        descents: int,
        levels: int,
        data_std: float,
    ) -> None:
        self.loss, self.descent, self.starts, self.descents = loss, descent, starts, descents
        self.levels, self.data_std = levels, data_std
        self.objective, self.denoiser = loss.objective, loss.denoiser
        self.process: Process = loss.denoiser.process

    def schedules(self, steps: Sequence[int]) -> dict[int, Schedule]:
        """K → the snapped schedule; of one step, or of T, there is no other."""
        free = [K for K in steps if 1 < K < self.process.T]
        between = of_first(self._between_timesteps) if free else {}
        best = of_first(lambda: self._optimal(free)) if free else {}
        starts = of_first(lambda: {K: self._starts(K, best.get(K)) for K in free})
        descended = shared_out(self._descend, [start for K in free for start in self._chosen(starts[K])])
        found: dict[int, Schedule] = {}
        for K in steps:
            if K in free:
                ends = {end.start.name: end for end in descended if end.start.K == K}
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

    def _optimal(self, free: Sequence[int]) -> dict[int, Schedule]:
        return optimal_schedules(self.objective, self.loss.statistics, self.denoiser, free)

    def _starts(self, K: int, best: Schedule | None) -> list[_Start]:
        """Every start with a finite score."""
        schedules = rule_schedules(self.starts, self.denoiser, K, self.levels, self.data_std)
        if best is not None and DP in self.starts:
            schedules[DP] = best
        gaps = self._gaps(K)
        projected = {name: gaps.logits(schedule.times) for name, schedule in schedules.items()}
        starts = [_Start(name, K, logits, self._rank(gaps, logits)) for name, logits in projected.items()]
        starts = [start for start in starts if math.isfinite(start.score)]
        if not starts:
            raise UserError(
                f"The gradient search has no start of {K} steps with a finite score among "
                f"{', '.join(self.starts)}; give another, or other steps."
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
            if len(chosen) < self.descents and not alike:
                chosen.append(start)
        return chosen

    def _descend(self, starts: Sequence[_Start]) -> list[_End]:
        """Where each start comes to; on a CPU each has a core of its own."""
        total = len(starts) * self.descent.iterations
        with tqdm(desc="gradient search", total=total, unit="iteration", delay=DELAY, disable=rank() > 0) as bar:

            def descend(start: _Start) -> Descended:
                gaps = self._gaps(start.K)
                return self.descent(
                    start.logits,
                    lambda logits, iteration: self.loss.of_iteration(gaps.times(logits), iteration),
                    lambda logits: self.loss.of_validation(gaps.times(logits)),
                    bar.update,
                )

            on_cpu = self.loss.samples.x0.device.type == "cpu"
            descended = spread(descend, starts) if on_cpu else [descend(start) for start in starts]
        return [self._end(*pair) for pair in zip(starts, descended, strict=True)]

    def _end(self, start: _Start, descended: Descended) -> _End:
        gaps = self._gaps(start.K)
        times = gaps.times(descended.point)
        path = gaps.snapped(times)
        return _End(start, descended, times, path, self.loss.of_validation_images(self.process.grid[path]))

    def _best(self, K: int, ends: Mapping[str, _End], best: Schedule | None, facts: Mapping[str, Any]) -> Schedule:
        """The end of a descent that is best once it lies on the grid, with what was found out about it."""
        descents = {name: end.descended for name, end in ends.items()}
        name, end = min(ends.items(), key=lambda item: item[1].losses.mean().item())
        found = {
            **facts,
            "descents": {
                name: {"score": one.score, "iterations": one.iterations} for name, one in descents.items()
            },
            "start": name,
            "continuous": {"times": end.times.tolist(), "score": end.descended.score},
            "snapped": {"score": end.losses.mean().item()},
        }
        return self._schedule(end.path, found | self._against_optimum(K, end.losses, best))

    def _against_optimum(self, K: int, losses: Tensor, best: Schedule | None) -> dict[str, Any]:
        """How the losses of the validation images compare with those under dp's schedule."""
        if best is None:
            return {"no_optimum": "The objective is no sum over steps, or dp has no path on these statistics."}
        if self.objective.linearised:
            return {"no_optimum": "dp's schedule is the best of linearised objectives, not of this one."}
        of_best = of_first(lambda: self.loss.of_validation_images(best.times))
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
        provenance = {"search": NAME, "objective": self.objective.name, "found": found}
        return Schedule.on_grid(path, self.process, provenance)

    def _gaps(self, K: int) -> FreeGaps:
        return FreeGaps(self.process, self.levels, self.data_std, K)
