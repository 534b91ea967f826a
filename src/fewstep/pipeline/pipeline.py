"""The stages of one configuration, from its check to its report."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewstep.config import Config
from fewstep.decoders import require_steps
from fewstep.denoiser import Denoiser
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.judging.cost import cost_rows, schedules_cost_rows, tuning_cost_rows
from fewstep.pipeline.evaluating import Evaluations
from fewstep.pipeline.searching import Searches
from fewstep.pipeline.tuning import Tunings
from fewstep.results import Result, read_results
from fewstep.search.base import check_steps
from fewstep.shared import Shared
from fewstep.stages.evaluate import samples_file
from fewstep.stages.report import Sources, report

log = logging.getLogger(__name__)


class Pipeline:
    """The stages of one configuration; each is run at most once.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.

    Attributes:
        reported: the folder of the report, once there is one.

    Raises:
        UserError: a setting that some stage would refuse later.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any]) -> None:
        self.config = config
        self.assemble(build)
        self.reported: Path | None = None
        self._check()

    def assemble(self, build: Callable[[Any], Any]) -> None:
        """Make the parts; nothing is run yet."""
        self.shared = Shared(self.config, build)
        self.searches = Searches(self.shared)
        self.tunings = Tunings(self.shared, self.searches)
        self.evaluations = Evaluations(self.shared, self.searches, self.tunings)

    def _check(self) -> None:
        """Build everything once, so that a wrong setting ends the run before any work is done."""
        c, evaluation = self.config, self.shared.evaluation
        model: Denoiser = self.shared.build(c.model)
        check_steps(c.steps, model.process)
        self.shared.check(model)
        self.searches.check(model)
        for node in c.solver.values():
            self.shared.build(node)
        for name in evaluation.sample_steps.keys() - c.solver.keys():
            find("solvers", name)  # a solver that is not chosen may be named, but not one that does not exist
        if c.stage in ("finetune", "evaluate", "report"):
            self.tunings.check(model)
        if c.stage in ("evaluate", "report"):
            require_steps(c.steps, evaluation.decoders, evaluation.variances)
            self.evaluations.check(model.process)

    def run(self) -> str:
        """Run up to the configured stage; returns what to tell the user."""
        with self.shared.logging.job(self.shared.root, self.config):
            return self._run()

    def _run(self) -> str:
        stage = self.config.stage
        if stage == "pretrain":
            return f"The model: {self.shared.weights}"
        if stage == "search":
            return "Schedules:\n" + "\n".join(map(str, self.searches.all))
        if stage == "finetune":
            models = [f"The tuned model: {tuned.weights}" for tuned in self.tunings.all]
            return "\n".join(models) or "No fine-tuning is configured; set finetune=restricted."
        if stage == "evaluate":
            return "Results:\n" + "\n".join(str(folder / "results.csv") for folder in self.evaluations.all)
        return self.report()

    @property
    def returned(self) -> float | None:
        """What a sweeper that chooses jobs by their results is told: the mean of the metric that `returns` names.

        Raises:
            UserError: the stages that were run measured nothing of that name.
        """
        metric = self.config.returns
        if metric is None:
            return None
        tables = [read_results(path) for path in self._results() if path.is_file()]
        values = [value for table in tables for value in table.value[table.metric == metric]]
        if not values:
            measured = sorted({name for table in tables for name in table.metric})
            raise UserError(
                f"returns is {metric!r}, but stage={self.config.stage} measured no such metric; it measured "
                f"{', '.join(measured) or 'nothing'}."
            )
        return sum(values) / len(values)

    def _results(self) -> list[Path]:
        """The files of results that a stage left, in itself."""
        if self.config.stage in ("evaluate", "report"):
            return [folder / "results.csv" for folder in self.evaluations.all]
        if self.config.stage == "finetune":
            return [tuned.folder / "results.csv" for tuned in self.tunings.all]
        return self.searches.results if self.config.stage == "search" else []

    def report(self) -> str:
        """Gather everything; returns the table for the terminal and where the report lies."""
        c, evaluated = self.config, self.evaluations.all
        config = {"evaluated": [folder.name for folder in evaluated], "name": c.name}
        folder = self.shared.folder("report", c.part or "", config)
        sources = Sources(
            results=[path / "results.csv" for path in evaluated] + self.searches.results,
            costs=[*self._costs(), *self.shared.statistics_rows()],
            schedules=self.searches.all,
            samples=self._samples(),
        )
        log.info("report      %s", folder)
        table = report(folder, config, sources, f"fewstep: {c.name}{f', {c.part}' if c.part else ''}")
        self.shared.logging.show(folder)
        self.reported = folder
        return f"{table}\nThe report: {folder / 'report.html'}"

    def _costs(self) -> list[Result]:
        """What every stage, every schedule optimizer's schedules and every tuned model cost."""
        labels = self.shared.labels()
        tuned = [(one.row, one.steps, one.runs) for one in self.tunings.all]
        return [
            *cost_rows(self.shared.spent, labels),
            *schedules_cost_rows(self.searches.behind, labels),
            *tuning_cost_rows(tuned, labels),
        ]

    def _samples(self) -> dict[str, dict[str, Path]]:
        """Caption → label of a row → samples, in the order of solver, K and schedule optimizer."""
        labels = self.evaluations.labels
        pictures: dict[str, dict[str, Path]] = {}
        for solver in self.config.solver:
            for K in self.config.steps:
                rows = {
                    labels[folder].replace(f"-k{K:03d}", ""): path
                    for folder in self.evaluations.all
                    if folder in labels and (path := samples_file(folder, solver, K)).exists()
                }
                if rows:
                    pictures[f"{solver}, {K} steps; a column starts from the same noise in every row"] = rows
        return pictures
