"""Stage finetune in a run: a model for every schedule that is tuned for, and for every number of rounds.

Round r searches the schedule of the weights w_{r−1}, which for round 1 the run's own search has done, and trains
w_{r−1} on it to w_r: two runs in folders of their own, so that what is there is skipped or resumed. A model of N
rounds trains as long as one that is tuned once, an N-th of the iterations in each.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fewstep.artefacts.statistics import load_statistics
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.rounds import FINETUNE, SEARCH
from fewstep.objectives.base import Objective
from fewstep.pipeline.searching import Searches
from fewstep.shared import Shared
from fewstep.stages.finetune import WHICH, Finetuning, finetune, network_of
from fewstep.stages.rounds import PhaseFiles, judge_rounds

log = logging.getLogger(__name__)


class Tuned(NamedTuple):
    """A model tuned to one schedule.

    Attributes:
        schedule_optimizer: whose schedule.
        steps: of how many steps.
        rounds: how often search and training alternated, at most.
        weights: the model's folder.
        schedule: the schedule's file.
        untuned_schedule: that of the model before it was tuned.
        folder: the run whose `results.csv` tells how it was tuned.
        runs: all that it took, beyond the untuned model and its schedule.
    """

    schedule_optimizer: str
    steps: int
    rounds: int
    weights: Path
    schedule: Path
    untuned_schedule: Path
    folder: Path
    runs: Sequence[Path]

    @property
    def row(self) -> str:
        """The schedule optimizer of its rows of results."""
        return row_of(self.schedule_optimizer, self.rounds)

    @property
    def label(self) -> str:
        """Its name in folders."""
        how = "tuned" if self.rounds == 1 else f"rounds{self.rounds}"
        return f"{self.schedule_optimizer}-k{self.steps:03d}-{how}"

    @property
    def caption(self) -> str:
        """Its name in pictures."""
        return self.label if self.rounds == 1 else f"{self.label.rpartition('-')[0]}-{self.rounds} rounds"


def row_of(schedule_optimizer: str, rounds: int) -> str:
    """What rows of results call the schedule optimizer of a model that was tuned in some rounds."""
    return schedule_optimizer if rounds == 1 else f"{schedule_optimizer}_rounds{rounds}"


class Tunings:
    """The tuned models of one configuration.

    Args:
        shared: the artefacts that stages share.
        searches: the schedules.

    Attributes:
        settings: how models are tuned; None where none is.
    """

    def __init__(self, shared: Shared, searches: Searches) -> None:
        self.shared, self.searches, self.config = shared, searches, shared.config
        node = self.config.finetune
        self.settings: Finetuning | None = shared.build(node) if node else None

    @property
    def schedules(self) -> list[tuple[str, int]]:
        """(schedule optimizer, K) of every schedule that a model is tuned for; none where none is configured."""
        settings = self.settings
        if settings is None:
            return []
        names = settings.schedule_optimizers or tuple(self.config.schedule_optimizer)[-1:]
        return [(name, K) for name in names for K in settings.all_steps]

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless what is tuned can be trained, judged, and its schedules are searched."""
        c = self.config
        if self.settings is not None:
            self.settings.trainable.prepare(network_of(model))
            if self.shared.evaluation.split == "validation":
                raise UserError(
                    "Tuned models are selected on the split 'validation', so that they cannot be judged on it "
                    "too; set evaluation.split to another, or finetune=none."
                )
        for name, K in self.schedules:
            if name not in c.schedule_optimizer or K not in c.steps:
                raise UserError(
                    f"finetune asks for {name} at {K} steps; this run searches "
                    f"{', '.join(c.schedule_optimizer)} at {', '.join(map(str, c.steps))} steps. "
                    "Set finetune.steps and finetune.schedule_optimizer to some of these, or finetune=none."
                )
            self._check_rounds(name)

    def _check_rounds(self, name: str) -> None:
        """Raise a UserError where rounds would repeat each other, as the schedule does not follow the weights."""
        assert self.settings is not None
        objective = self.searches.objective(name, self.config.variance)
        follows = objective is not None and type(objective).time_weights is not Objective.time_weights
        if max(self.settings.all_rounds) > 1 and not follows:
            raise UserError(
                f"finetune.rounds is {self.settings.rounds}, but the schedule of {name} does not depend on the "
                "weights, so that one round is all there is; set finetune.rounds=1, or "
                "finetune.schedule_optimizer to one that looks at the network's error, such as elbo_dp."
            )

    @cached_property
    def all(self) -> list[Tuned]:
        """Every tuned model."""
        numbers = () if self.settings is None else self.settings.all_rounds
        return [self._tuned(name, K, rounds) for name, K in self.schedules for rounds in numbers]

    def _tuned(self, name: str, steps: int, rounds: int) -> Tuned:
        """The model of so many rounds; of several the best one's, by the validation images."""
        schedule, weights = self.searches.schedules(name, self.config.variance)[steps], self.shared.weights
        if rounds == 1:
            tuned = self._trained(name, steps, 1, 1, weights, schedule)
            return Tuned(name, steps, rounds, tuned, schedule, schedule, tuned, [tuned])
        made, runs = self._alternated(name, steps, rounds)
        folder = self._judged(name, steps, rounds, made)
        kept = int(self.shared.facts(folder)["kept"])
        best = made[max(0, 2 * kept - 1)]  # what round `kept` trained; the first search's, untuned, for 0
        runs = list(dict.fromkeys([*runs, folder]))
        return Tuned(name, steps, rounds, best.weights, best.schedule, schedule, folder, runs)

    def _alternated(self, name: str, steps: int, rounds: int) -> tuple[list[PhaseFiles], list[Path]]:
        """What every phase left, two a round, and all runs that this took.

        There are no rounds after one that improved nothing: it would be repeated.
        """
        weights, made, runs = self.shared.weights, list[PhaseFiles](), list[Path]()
        row = row_of(name, rounds)
        for number in range(1, rounds + 1):
            if number == 1:
                schedule = self.searches.schedules(name, self.config.variance)[steps]
            else:
                label = self._label(name, steps, rounds, number)
                schedule = self.searches.tuned_schedule(name, weights, steps, label, row)
                runs += self.searches.runs_behind(schedule)
            tuned = self._trained(name, steps, rounds, number, weights, schedule)
            runs.append(tuned)
            for phase, model in ((SEARCH, weights), (FINETUNE, tuned)):
                statistics = self._measured(name, model, schedule, row)
                made.append(
                    PhaseFiles(number, phase, model, schedule, {k: path for k, (_, path) in statistics.items()})
                )
                runs += [path.parent for paths in statistics.values() for path in paths]
            if not self.shared.facts(tuned)["improved"]:
                break
            weights = tuned
        return made, runs

    def _measured(self, name: str, model: Path, schedule: Path, charged_to: str) -> dict[str, tuple[Path, Path]]:
        """Kind → statistics at a schedule that the objective needs: those it is fitted on, and of validation."""
        statistics = {}
        for kind in self._objective(name).needs:
            fitted = self.shared.fitted_statistics(kind, model, [schedule], charged_to)
            path = self.shared.validation_statistics(kind, model, fitted, schedule, charged_to)
            statistics[kind] = (fitted, path)
        return statistics

    def _judged(self, name: str, steps: int, rounds: int, made: list[PhaseFiles]) -> Path:
        """The run that judges the rounds."""
        c, shared = self.config, self.shared
        config = {
            "rounds": rounds,
            "objective": self.searches.objective_settings(name, c.variance),
            "statistics": c.statistics,
            "steps": steps,
            "schedules": [one.schedule.parents[1].name for one in made],
            "weights": [one.weights.name for one in made],
        } | shared.chosen
        row = row_of(name, rounds)
        folder = shared.folder("finetune", f"{name}-k{steps:03d}-rounds{rounds}", config)
        log.info("finetune    %s", folder)
        labels = shared.labels(row) | {"steps": steps}
        self.judge_rounds(folder, config, self._objective(name), made, rounds, labels)
        return shared.charge("finetune", row, folder)

    def judge_rounds(
        self,
        folder: Path,
        config: Mapping[str, Any],
        objective: Objective,
        made: Sequence[PhaseFiles],
        rounds: int,
        labels: Mapping[str, Any],
    ) -> None:
        """Find the best of the rounds; the results go into a folder."""
        judge_rounds(folder, config, objective, made, rounds, self.config.seed, labels)

    def _objective(self, name: str) -> Objective:
        """That of a schedule optimizer which has one."""
        objective = self.searches.objective(name, self.config.variance)
        assert objective is not None
        return objective

    @staticmethod
    def _label(name: str, steps: int, rounds: int, number: int) -> str:
        """The name of the runs of a round in folders."""
        return f"{name}-k{steps:03d}" + (f"-round{number}of{rounds}" if rounds > 1 else "")

    def _trained(self, name: str, steps: int, rounds: int, number: int, weights: Path, schedule: Path) -> Path:
        """The folder of the model that training makes of weights in one of so many rounds."""
        c, shared = self.config, self.shared
        assert self.settings is not None
        assert c.finetune is not None
        settings, row = self.settings.of_one_round(rounds), row_of(name, rounds)
        objective = self.searches.objective(name, c.variance)
        how = {key: value for key, value in c.finetune.items() if key not in WHICH}
        config = {
            "finetune": how | {"iterations": settings.iterations},
            "steps": steps,
            "schedule": schedule.parents[1].name,
            "weights": weights.name,
            "dataset": c.dataset,
            "trainer": shared.arithmetic,
            "seed": c.seed,
        }
        folder = shared.folder("finetune", self._label(name, steps, rounds, number), config)

        def statistics() -> dict[str, Path]:
            kinds = () if objective is None else objective.needs
            at = shared.judged_at([schedule])
            mine = None if weights == shared.weights else row
            return {kind: shared.fitted_statistics(kind, weights, at, mine) for kind in kinds}

        log.info("finetune    %s", folder)
        labels = shared.labels(row) | {"steps": steps}
        self.finetune(folder, config, settings, schedule, objective, statistics, weights, labels)
        return shared.charge("finetune", row, folder)

    def finetune(
        self,
        folder: Path,
        config: Mapping[str, Any],
        settings: Finetuning,
        schedule: Path,
        objective: Objective | None,
        statistics: Callable[[], Mapping[str, Path]],
        weights: Path,
        labels: Mapping[str, Any],
    ) -> None:
        """Tune weights to a schedule into a folder; `statistics` finds files that times may be drawn by."""
        shared = self.shared
        finetune(
            folder,
            config,
            settings,
            schedule,
            objective,
            lambda: {kind: load_statistics(kind)(path) for kind, path in statistics().items()},
            weights,
            shared.dataset,
            shared.training,
            shared.logging,
            self.config.seed,
            labels,
        )
