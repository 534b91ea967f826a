"""The pipeline with runs that are counted instead of made: which runs there are is decided where it always is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.artefacts.fine_steps import FILE, FineSteps, fine_steps_identity
from fewstep.artefacts.precision import PrecisionFiles, few_statistics, in_float32
from fewstep.calls import Calls
from fewstep.config import Config
from fewstep.judging.files import JudgingFiles
from fewstep.judging.finetuning import validation_calls
from fewstep.judging.objective_values import Configured
from fewstep.modules.fitting import fitting_calls, validations
from fewstep.modules.trainers import FLOAT32, precision_of
from fewstep.objectives.base import Objective
from fewstep.pipeline.evaluating import Evaluations
from fewstep.pipeline.pipeline import Pipeline
from fewstep.pipeline.searching import Searches
from fewstep.pipeline.tuning import Tunings
from fewstep.planning.ledger import Ledger
from fewstep.planning.networks import Networks
from fewstep.planning.shared import PlannedShared
from fewstep.search.base import Search, search_calls
from fewstep.stages.evaluate import Subject, evaluation_calls
from fewstep.stages.finetune import Finetuning, drawn_evenly
from fewstep.stages.rounds import PhaseFiles
from fewstep.stages.search import schedule_file
from fewstep.statistics.denoising_error import KIND


class PlannedSearches(Searches):
    """`Searches` that counts."""

    shared: PlannedShared

    def search(
        self,
        folder: Path,
        config: Mapping[str, Any],
        name: str,
        provenance: Mapping[str, Any],
        objective: Objective | None,
        find: Search,
        statistics: Mapping[str, tuple[Path, Callable[[Path], Any]]],
        weights: Path,
        steps: Sequence[int],
        labels: Mapping[str, Any],
    ) -> None:
        """Count a search."""
        shared = self.shared
        shared.steps |= {schedule_file(folder, name, K): K for K in steps}
        images = {kind: shared.images[path] for kind, (path, _) in statistics.items()}
        calls = search_calls(find, objective, shared.model.process, images, steps)
        shared.plan("search", folder, calls.at_most() if weights in shared.tuned and calls.total else calls)


class PlannedTunings(Tunings):
    """`Tunings` that counts; every round is taken to improve the model, so that there is another."""

    shared: PlannedShared

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
        """Count the training, and the statistics that times are drawn by."""
        shared = self.shared
        if objective is not None and not drawn_evenly(settings):
            statistics()
        calls = fitting_calls(settings, settings.patience)
        if weights in shared.tuned:
            calls = calls.at_most()
        trainable = (self.config.finetune or {}).get("trainable")
        shared.plan("finetune", folder, calls, trainable=trainable, trains=True)
        validated = validation_calls(
            shared.steps[schedule], validations(settings), shared.size("validation"), shared.size("train")
        )
        shared.plan("finetune, validation", folder, validated, recorded=False)
        shared.tuned.add(folder)
        shared.expected[folder] = {"improved": True}

    def judge_rounds(
        self,
        folder: Path,
        config: Mapping[str, Any],
        objective: Objective,
        made: Sequence[PhaseFiles],
        rounds: int,
        labels: Mapping[str, Any],
    ) -> None:
        """Count a run that calls no network; the last round is taken to be the best."""
        self.shared.plan("finetune", folder, Calls())
        self.shared.expected[folder] = {"kept": made[-1].round}


class PlannedEvaluations(Evaluations):
    """`Evaluations` that counts. The network that extracts features is another, and is not counted."""

    shared: PlannedShared

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
        """Count the samples."""
        solvers = {name: self.shared.build(node) for name, node in self.config.solver.items()}
        steps = subject.schedule_files[subject.sampled_variance].keys()
        self.shared.plan("evaluate", folder, evaluation_calls(self.shared.evaluation, solvers, steps))

    def make_fine_steps(self, root: Path, settings: FineSteps) -> Path:
        """Count the samples of many steps."""
        shared = self.shared
        identity = fine_steps_identity(shared.weights, shared.dataset, settings, shared.arithmetic)
        folder = shared.folder_of(root, identity)
        shared.plan("fine steps", folder, settings.calls)
        return folder / FILE

    def make_precision_files(self, root: Path) -> PrecisionFiles | None:
        """Count the statistics in either precision."""
        shared = self.shared
        precision = precision_of(shared.arithmetic)
        if precision == FLOAT32:
            return None
        few, indices = few_statistics(shared.statistics, shared.model.process)
        lower, full = (
            shared.count_statistics(KIND, shared.weights, few, indices, arithmetic)
            for arithmetic in (shared.arithmetic, in_float32(shared.arithmetic))
        )
        return PrecisionFiles(precision, lower, full)

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
        """Count the values that run the network; most need statistics alone."""
        steps = [K for by_K in schedules.values() for K in by_K]
        each = [one.objective.value_calls(K) for one in objectives.values() for K in steps]
        self.shared.plan("evaluate", folder, sum(each, Calls()))

    def evaluate_reference(
        self,
        folder: Path,
        config: Mapping[str, Any],
        fitted: Path,
        judging: Mapping[str, JudgingFiles],
        labels: Mapping[str, Any],
        precision: PrecisionFiles | None,
    ) -> None:
        """Count a run that calls no network."""
        self.shared.plan("evaluate", folder, Calls())


class PlannedPipeline(Pipeline):
    """The pipeline of one configuration, walked through without any run.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.
        networks: measures the networks.

    Attributes:
        ledger: what the runs take; filled by `run`.

    Raises:
        UserError: a setting that a run would refuse.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any], networks: Networks) -> None:
        self.networks, self.ledger = networks, Ledger()
        super().__init__(config, build)

    def assemble(self, build: Callable[[Any], Any]) -> None:
        """Make the parts that count."""
        shared = PlannedShared(self.config, build, self.networks, self.ledger)
        self.shared, self.searches = shared, PlannedSearches(shared)
        self.tunings = PlannedTunings(shared, self.searches)
        self.evaluations = PlannedEvaluations(shared, self.searches, self.tunings)

    def report(self) -> str:
        """Ask for everything that a report gathers."""
        return "\n".join(map(str, [*self.evaluations.all, *self.searches.all]))
