"""Stage evaluate in a run: every schedule optimizer, every tuned model, and what all are compared with."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.artefacts.fine_steps import FineSteps, check_fine_steps, fine_step_outputs_of
from fewstep.artefacts.precision import PrecisionFiles, precision_files_of
from fewstep.decoders import DECODERS
from fewstep.judging.files import JudgingFiles
from fewstep.judging.objective_values import Configured, labelled
from fewstep.pipeline.searching import Searches
from fewstep.pipeline.tuning import Tuned, Tunings
from fewstep.process import Process
from fewstep.shared import Shared
from fewstep.stages.evaluate import NOTHING_UNTUNED, Subject, evaluate, evaluate_reference
from fewstep.stages.evaluate_objectives import evaluate_objectives
from fewstep.statistics.denoising_error import KIND
from fewstep.variance import OptimalVariance

log = logging.getLogger(__name__)


class Evaluations:
    """The evaluations of one configuration.

    Args:
        shared: the artefacts that stages share.
        searches: the schedules.
        tunings: the tuned models.

    Attributes:
        labels: what an evaluation's folder is of, for captions.
    """

    def __init__(self, shared: Shared, searches: Searches, tunings: Tunings) -> None:
        self.shared, self.searches, self.tunings, self.config = shared, searches, tunings, shared.config
        self.labels: dict[Path, str] = {}

    def check(self, process: Process) -> None:
        """Raise a UserError unless samples can be judged, and compared with what so many steps make."""
        self.shared.features.check(self.shared.dataset)
        if self.shared.evaluation.compared:
            check_fine_steps(self.shared.evaluation.fine_steps, max(self.config.steps), process)

    @cached_property
    def all(self) -> list[Path]:
        """The folders of every evaluation of this configuration, and of the fine-tuning behind them."""
        c, variances = self.config, self.shared.evaluation.variances
        folders = []
        for name in self.config.schedule_optimizer:
            files = {variance: self.searches.schedules(name, variance) for variance in variances}
            folders.append(self._evaluate(name, name, self.shared.weights, files, None))
        untuned = {name: self.searches.schedules(name, c.variance) for name in c.schedule_optimizer}
        folders += self._evaluate_objectives("objectives", self.shared.weights, untuned, finetuned=False)
        for tuned in self.tunings.all:
            folders += [self._evaluate_tuned(tuned), tuned.folder]
            files = {tuned.row: {tuned.steps: tuned.schedule}}
            folders += self._evaluate_objectives(f"objectives-{tuned.label}", tuned.weights, files, finetuned=True)
        return [*folders, self._evaluate_reference()]

    def _evaluate_tuned(self, tuned: Tuned) -> Path:
        depends = self.searches.depends_on_variance(tuned.schedule_optimizer)
        judged = [self.config.variance] if depends else self.shared.evaluation.variances
        files = {variance: {tuned.steps: tuned.schedule} for variance in judged}
        folder = self._evaluate(tuned.schedule_optimizer, tuned.label, tuned.weights, files, tuned)
        self.labels[folder] = tuned.caption
        return folder

    def _evaluate(
        self,
        name: str,
        label: str,
        weights: Path,
        files: Mapping[str, Mapping[int, Path]],
        tuned: Tuned | None,
    ) -> Path:
        c, shared = self.config, self.shared
        paths = [path for by_K in files.values() for path in by_K.values()]
        schedules = [tuned.schedule] if tuned else shared.judged_at(paths)
        kinds = dict.fromkeys(kind for node in c.solver.values() for kind in shared.build(node).needs)
        fitted = {kind: shared.fitted_statistics(kind, weights, schedules) for kind in kinds}
        judging = self._judging(weights, schedules, paths)
        config = {
            "evaluation": self._measured,
            "solver": c.solver,
            "features": shared.features.identity,
            "statistics": c.statistics,
            "weights": weights.name,
            "schedules": {
                v: sorted({path.parents[1].name for path in by_K.values()}) for v, by_K in files.items()
            },
        }
        config |= shared.chosen
        untuned, untuned_schedules = NOTHING_UNTUNED, {}
        if tuned:
            config["untuned"] = shared.weights.name
            before = [tuned.untuned_schedule]
            untuned = self._judging(shared.weights, shared.judged_at(before), before)
            if tuned.schedule != tuned.untuned_schedule:
                untuned_schedules = {tuned.steps: tuned.untuned_schedule}
        folder = shared.folder("evaluate", label, config)
        self.labels[folder] = label
        sampled = c.variance if c.variance in files else next(iter(files))
        row = tuned.row if tuned else name
        labels = shared.labels(row) | {"finetuned": tuned is not None}
        depends = self.searches.depends_on_variance(name)
        subject = Subject(weights, files, sampled, depends, labels, untuned_schedules)
        log.info("evaluate    %s", folder)
        fine = self._fine_step_outputs
        self.evaluate(folder, config, subject, fitted, judging, untuned, fine)
        return shared.charge("evaluate", row, folder)

    def evaluate(
        self,
        folder: Path,
        config: Mapping[str, Any],
        subject: Subject,
        fitted: Mapping[str, Path],
        judging: Mapping[str, JudgingFiles],
        untuned: Mapping[str, JudgingFiles],
        fine: Path | None,
    ) -> None:
        """Measure a subject; the results go into a folder."""
        judge, seed = self.shared.judge, self.config.seed
        evaluate(folder, config, subject, judge, fitted, judging, seed, untuned, fine)

    @property
    def _measured(self) -> dict[str, Any]:
        """The settings of what is measured; with no further metrics, as runs were named before there were any."""
        return {key: value for key, value in self.config.evaluation.items() if key != "sample_metrics" or value}

    @cached_property
    def _fine_step_outputs(self) -> Path | None:
        """What many steps of the untuned model make of the first seed's noise; None for no comparison."""
        shared, evaluation = self.shared, self.shared.evaluation
        if not evaluation.compared:
            return None
        settings = FineSteps(evaluation.fine_steps, evaluation.compared, evaluation.sample_seeds[0])
        path = self.make_fine_steps(shared.root / "fine_steps", settings)
        shared.charge("evaluate", None, path.parent)
        return path

    def make_fine_steps(self, root: Path, settings: FineSteps) -> Path:
        """The file of the untuned model's fine-step outputs."""
        shared = self.shared
        log.info("fine steps  %s", root)
        return fine_step_outputs_of(
            root, shared.weights, shared.dataset, settings, shared.arithmetic, shared.trainer
        )

    @property
    def _precision_files(self) -> PrecisionFiles | None:
        """What tells what the trainer's precision changes; None for float32."""
        files = self.make_precision_files(self.shared.root / "statistics")
        for path in () if files is None else (files.lower, files.full):
            self.shared.charge("evaluate", None, path.parent)
        return files

    def make_precision_files(self, root: Path) -> PrecisionFiles | None:
        """The statistics in float32 and in the run's precision, where that is another."""
        shared = self.shared
        return precision_files_of(
            *(root, shared.weights, shared.dataset, self.config.dataset),
            *(shared.statistics, shared.trainer, shared.arithmetic),
        )

    @cached_property
    def _objectives(self) -> dict[str, Configured]:
        """Label → every objective that some schedule optimizer of the run minimises."""
        variance = self.config.variance
        return labelled(
            [
                Configured(objective, self.searches.objective_settings(name, variance) or {})
                for name in self.config.schedule_optimizer
                if (objective := self.searches.objective(name, variance)) is not None
                and not objective.sample_seeds  # what such a one judges by, every row of samples tells
            ]
        )

    def _evaluate_objectives(
        self,
        label: str,
        weights: Path,
        schedules: Mapping[str, Mapping[int, Path]],
        *,
        finetuned: bool,
    ) -> list[Path]:
        """The folder of the objectives' values of a model's schedules; none where the run has no objective."""
        c, shared, objectives = self.config, self.shared, self._objectives
        if not objectives:
            return []
        paths = [path for by_K in schedules.values() for path in by_K.values()]
        at = paths if finetuned else shared.judged_at(paths)
        kinds = dict.fromkeys(kind for one in objectives.values() for kind in one.objective.needs)
        statistics = {
            kind: shared.judging_statistics(kind, weights, shared.fitted_statistics(kind, weights, at), at)
            for kind in kinds
        }
        config = {
            "objectives": {name: dict(one.settings) for name, one in objectives.items()},
            "statistics": c.statistics,
            "judged on": [shared.evaluation.split, shared.evaluation.images],
            "weights": weights.name,
            "schedules": {
                name: sorted({path.parents[1].name for path in by_K.values()}) for name, by_K in schedules.items()
            },
        } | shared.chosen
        folder = shared.folder("evaluate", label, config)
        labels = shared.labels() | {"finetuned": finetuned}
        log.info("evaluate    %s", folder)
        self.evaluate_objectives(folder, config, objectives, schedules, statistics, labels, weights)
        shared.logging.show(folder)
        return [folder]

    def evaluate_objectives(
        self,
        folder: Path,
        config: Mapping[str, Any],
        objectives: Mapping[str, Configured],
        schedules: Mapping[str, Mapping[int, Path]],
        statistics: Mapping[str, Path],
        labels: Mapping[str, Any],
        weights: Path,
    ) -> None:
        """The objectives' values of schedules; the results go into a folder."""
        evaluate_objectives(folder, config, objectives, schedules, statistics, labels, self.config.seed, weights)

    def _judging(
        self, weights: Path, at: Sequence[Path] | None, judged: Sequence[Path]
    ) -> dict[str, JudgingFiles]:
        """Decoder → the files with which it judges schedules, `optimal` variances fitted behind the search.

        They are measured at the timesteps of the schedules `at`, at all of the grid for None. Where `optimal` is
        not judged nothing looks at its fit, and that of another kind, which searches measure anyway, will do.
        """
        return {name: self._judging_files(name, weights, at, judged) for name in self.shared.evaluation.decoders}

    def _judging_files(
        self, decoder: str, weights: Path, at: Sequence[Path] | None, judged: Sequence[Path]
    ) -> JudgingFiles:
        shared, convention = self.shared, DECODERS[decoder]
        optimal = OptimalVariance.name in shared.evaluation.variances
        fitted = shared.fitted_statistics(convention.statistics if optimal else KIND, weights, at)
        path = shared.judging_statistics(convention.statistics, weights, fitted, at)
        if convention.tabular:
            return JudgingFiles(path)
        return JudgingFiles(path, shared.tanh_decoder(weights, path, judged, at))

    def _evaluate_reference(self) -> Path:
        """The full grid, the floor and the health of the network."""
        c, shared = self.config, self.shared
        whole = shared.judged_at([]) is None  # the full grid is judged only where all of it is measured
        fitted = shared.search_statistics(KIND, shared.weights)[0]
        judging = self._judging(shared.weights, None, []) if whole else {}
        config = {
            "evaluation": self._measured,
            "features": shared.features.identity,
            "statistics": c.statistics,
            "weights": shared.weights.name,
        } | shared.chosen
        folder = shared.folder("evaluate", "reference", config)
        labels = shared.labels() | {"finetuned": False}
        log.info("evaluate    %s", folder)
        self.evaluate_reference(folder, config, fitted, judging, labels, self._precision_files)
        shared.logging.show(folder)
        return folder

    def evaluate_reference(
        self,
        folder: Path,
        config: Mapping[str, Any],
        fitted: Path,
        judging: Mapping[str, JudgingFiles],
        labels: Mapping[str, Any],
        precision: PrecisionFiles | None,
    ) -> None:
        """What all are compared with; the results go into a folder."""
        judge, dataset, seed = self.shared.judge, self.shared.dataset, self.config.seed
        evaluate_reference(folder, config, judge, dataset, fitted, judging, labels, seed, precision)
