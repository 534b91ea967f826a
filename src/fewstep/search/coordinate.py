"""Coordinate search: single nodes move while the objective's true value falls; for any objective.

It is what is left where dp is not exact: for an error that is no sum over steps, such as that of the whole K-step
sampler (`teacher_distance`), and for multistep solvers, whose error in a step depends on the node before it too.
Dp on pairs of nodes could find the best path of such errors, with T³/6 costs instead of T²/2. But they would still
be local errors, carried to the end by a model of the flow, and with states of the teacher's in place of the
solver's own; a value that runs the sampler needs neither.

The value of a schedule is the same whenever it is asked for, because statistics fix the noise: no move is taken by
the luck of a draw.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fewstep.calls import Calls
from fewstep.denoiser import Denoiser, evaluating
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps
from fewstep.search.node_moves import NodeMoves, Valued
from fewstep.search.starts import STARTS, optimal_schedules, rule_schedules


class Coordinate:
    """`coordinate`: from the best of some starts, nodes move one by one (fewstep.search.node_moves).

    `provenance["found"]` holds the value of every start and the one that was taken, the value at the end, how many
    evaluations of the objective and network calls that took, and whether they ended it.

    Args:
        evaluations: of the objective per K, at most, those of the starts included.
        starts: names of `STARTS`; `dp` is left out where the objective has no table.
        paths_of: objectives that are sums over steps; the dp path of each is one more start.
        levels: grey levels of the data, for the starts.
        data_std: of the data per pixel, for the tangent start.

    Raises:
        UserError: a setting that is none of these.
    """

    name = "coordinate"
    needs_objective = True

    def __init__(
        self,
        evaluations: int = 100,
        starts: Sequence[str] = STARTS,
        paths_of: Sequence[Objective] = (),
        levels: int = 256,
        data_std: float = 0.5,
    ) -> None:
        if isinstance(evaluations, bool) or not isinstance(evaluations, int) or evaluations < 1:
            raise _refused("evaluations", evaluations, "a whole number of at least 1")
        if isinstance(starts, str) or not set(starts) <= set(STARTS):
            raise _refused("starts", starts, f"a list of some of {', '.join(STARTS)}")
        if not starts and not paths_of:
            raise UserError("The coordinate search has no start; give it starts or paths_of.")
        for objective in paths_of:
            if not objective.additive:
                raise UserError(
                    f"The coordinate search starts from dp's paths of sums over steps, and {objective.name!r} is "
                    "none; leave it out of paths_of."
                )
        if len(starts) + len(paths_of) > evaluations:
            raise _refused("evaluations", evaluations, "at least as many as there are starts")
        self.evaluations, self.starts, self.paths_of = evaluations, tuple(starts), tuple(paths_of)
        self.levels, self.data_std = levels, data_std
        self.needs: Sequence[str] = tuple(dict.fromkeys(kind for one in paths_of for kind in one.needs))

    def check(self, objective: Objective | None, process: Process) -> None:
        """Raise a UserError unless there is an objective."""
        if objective is None:
            raise UserError("The search 'coordinate' needs an objective; give one, such as teacher_distance.")

    def __call__(
        self, objective: Objective | None, statistics: Statistics, denoiser: Denoiser, steps: Sequence[int]
    ) -> dict[int, Schedule]:
        """The schedules where no move gains any more, or that the evaluations led to."""
        self.check(objective, denoiser.process)
        assert objective is not None
        check_steps(steps, denoiser.process)
        objective.check_statistics(statistics, denoiser)
        free = [K for K in steps if 1 < K < denoiser.process.T]
        optimal = {
            f"{one.name}_dp": optimal_schedules(one, statistics, denoiser, free) for one in self.paths_of if free
        }
        if "dp" in self.starts and free:
            optimal["dp"] = optimal_schedules(objective, statistics, denoiser, free)
        found: dict[int, Schedule] = {}
        for K in steps:
            if K in free:
                starts = rule_schedules(self.starts, denoiser, K, self.levels, self.data_std)
                starts |= {name: paths[K] for name, paths in optimal.items() if K in paths}
                with evaluating(denoiser):
                    found[K] = self._search(objective, statistics, denoiser, starts)
            else:
                path = [0, denoiser.process.T] if K == 1 else range(K + 1)
                found[K] = self._schedule(path, objective, denoiser, {"only_schedule": True})
        return found

    def network_calls(
        self, objective: Objective | None, process: Process, images: Mapping[str, int], steps: Sequence[int]
    ) -> Calls:
        """At most: a descent may settle before it has used up its evaluations."""
        assert objective is not None
        total = Calls()
        for K in (K for K in steps if 1 < K < process.T):
            calls = objective.value_calls(K)
            times = min(self.evaluations, math.comb(process.T - 1, K - 1))
            if calls.total:
                total += replace(calls, forward=times * calls.forward).at_most()
        return total

    def _search(
        self,
        objective: Objective,
        statistics: Statistics,
        denoiser: Denoiser,
        starts: Mapping[str, Schedule],
    ) -> Schedule:
        """Where the best start of some K leads, and what was found out on the way."""
        process, before = denoiser.process, denoiser.evaluations

        def value(path: Sequence[int]) -> float:
            found = objective.value(statistics, Schedule.on_grid(path, process), denoiser)
            if math.isnan(found):
                raise UserError(
                    f"The objective {objective.name!r} of the schedule through the grid indices {list(path)} is "
                    "not a number; the network's weights may hold NaN."
                )
            return found

        valued = Valued(value, self.evaluations)
        of_starts = {name: valued(schedule.indices) for name, schedule in starts.items()}
        of_starts = {name: start for name, start in of_starts.items() if math.isfinite(start)}
        if not of_starts:
            raise UserError(
                f"The coordinate search has no start with a finite {objective.name} among "
                f"{', '.join(starts) or 'those that it was given'}; give another, or other steps."
            )
        best = min(of_starts, key=of_starts.__getitem__)
        path = NodeMoves(process).descend(starts[best].indices, valued)
        facts = {
            "starts": of_starts,
            "start": best,
            "value": valued(path),
            "evaluations": len(valued.known),
            "network_calls": denoiser.evaluations - before,
            "settled": not valued.exhausted,
        }
        return self._schedule(path, objective, denoiser, facts)

    def _schedule(
        self, path: Sequence[int], objective: Objective, denoiser: Denoiser, found: Mapping[str, Any]
    ) -> Schedule:
        provenance = {"search": self.name, "objective": objective.name, "found": found}
        if objective.solver is not None:
            provenance["solver"] = objective.solver
        return Schedule.on_grid(path, denoiser.process, provenance)


def _refused(setting: str, value: Any, allowed: str) -> UserError:
    return UserError(f"The coordinate search's {setting} is {value!r}, but must be {allowed}.")
