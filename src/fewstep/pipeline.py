"""The order of the stages: what each one needs is made first, and what is complete is skipped."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.artefacts.statistics import load_statistics
from fewstep.config import Config
from fewstep.denoiser import Denoiser
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.judging.cost import cost_rows
from fewstep.objectives.base import Objective, Statistics
from fewstep.schedule import Schedule
from fewstep.search.base import check_steps
from fewstep.shared import Shared
from fewstep.stages.evaluate import Subject, evaluate, evaluate_reference, samples_file
from fewstep.stages.finetune import Finetuning, finetune
from fewstep.stages.report import Sources, report
from fewstep.stages.search import schedule_file, search
from fewstep.statistics.denoising_error import KIND

log = logging.getLogger(__name__)


class Pipeline:
    """The stages of one configuration; each returns where its result lies and is run at most once.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.

    Raises:
        UserError: a setting that some stage would refuse later.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any]) -> None:
        self.config, self.build = config, build
        self.shared = Shared(config, build)
        self.finetuning: Finetuning | None = build(config.finetune) if config.finetune else None
        self._searched: dict[tuple[str, str], dict[int, Path]] = {}
        self._check()

    def _check(self) -> None:
        """Build everything once, so that a wrong setting ends the run before any work is done."""
        c = self.config
        model: Denoiser = self.build(c.model)
        check_steps(c.steps, model.process)
        self.shared.check(model)
        for name, node in c.schedule_optimizer.items():
            self.objective(name, c.variance)
            self.build(node["search"])
        for node in c.solver.values():
            self.build(node)
        for name in self.shared.evaluation.sample_steps.keys() - c.solver.keys():
            find("solvers", name)  # a solver that is not chosen may be named, but not one that does not exist
        if self.finetuning is not None and c.stage in ("finetune", "evaluate", "report"):
            name, K = self.tuned_optimizer, self.finetuning.steps
            if name not in c.schedule_optimizer or K not in c.steps:
                raise UserError(
                    f"finetune asks for {name} at {K} steps; this run searches "
                    f"{', '.join(c.schedule_optimizer)} at {', '.join(map(str, c.steps))} steps. "
                    "Set finetune.steps and finetune.schedule_optimizer to one of these, or finetune=none."
                )

    def run(self) -> str:
        """Run up to the configured stage; returns what to tell the user."""
        c = self.config
        if c.stage == "pretrain":
            return f"The model: {self.shared.weights}"
        if c.stage == "search":
            found = [path for name in c.schedule_optimizer for path in self.search(name, c.variance).values()]
            return "Schedules:\n" + "\n".join(str(path) for path in found)
        if c.stage == "finetune":
            return (
                "No fine-tuning is configured; set finetune=restricted."
                if self.tuned is None
                else (f"The tuned model: {self.tuned[0]}")
            )
        if c.stage == "evaluate":
            return "Results:\n" + "\n".join(str(folder / "results.csv") for folder in self.evaluated)
        return self.report()

    # Search

    def depends_on_variance(self, name: str) -> bool:
        """Whether a schedule optimizer is searched anew for every variance kind."""
        return "variance" in (self.config.schedule_optimizer[name].get("objective") or {})

    def objective(self, name: str, variance: str) -> Objective | None:
        """The objective of a schedule optimizer; None for a fixed rule."""
        node = self._objective_node(name, variance)
        objective: Objective | None = None if node is None else self.build(node)
        return objective

    def _objective_node(self, name: str, variance: str) -> dict[str, Any] | None:
        node = self.config.schedule_optimizer[name].get("objective")
        if node is None:
            return None
        return {**node, "variance": variance} if self.depends_on_variance(name) else dict(node)

    def search(self, name: str, variance: str) -> dict[int, Path]:
        """K → schedule file of one schedule optimizer, searched with a variance kind where it depends on one."""
        if not self.depends_on_variance(name):
            variance = self.config.variance
        if (name, variance) not in self._searched:
            self._searched[name, variance] = self._search(name, variance)
        return self._searched[name, variance]

    def _search(self, name: str, variance: str) -> dict[int, Path]:
        c, node = self.config, dict(self.config.schedule_optimizer[name])
        weights, objective = self.shared.weights, self.objective(name, variance)
        provenance: dict[str, Any] = {"schedule_optimizer": name, "search": node["search"]}
        config: dict[str, Any] = {"schedule_optimizer": node, "steps": list(c.steps), "weights": weights.name}
        files: dict[str, Path] = {}
        if objective is not None:
            node["objective"] = self._objective_node(name, variance)
            provenance |= {"objective": node["objective"], "split": self.shared.statistics.split}
            config["statistics"] = c.statistics
            files = {kind: self.shared.fitted_statistics(kind, weights) for kind in objective.needs}
        label = f"{name}-{variance}" if self.depends_on_variance(name) else name
        folder = self.shared.folder("search", label, config)
        log.info("search      %s", folder)
        search(
            folder,
            config,
            name,
            provenance,
            objective,
            self.build(node["search"]),
            {kind: (path, load_statistics(kind)) for kind, path in files.items()},
            weights,
            list(c.steps),
            c.seed,
        )
        self.shared.charge("search", name, folder)
        return {K: schedule_file(folder, name, K) for K in c.steps}

    # Fine-tuning

    @property
    def tuned_optimizer(self) -> str:
        """Whose schedule the model is tuned for."""
        assert self.finetuning is not None
        return self.finetuning.schedule_optimizer or list(self.config.schedule_optimizer)[-1]

    @cached_property
    def tuned(self) -> tuple[Path, Path] | None:
        """The folder of the tuned model and the schedule file behind it; None where none is configured."""
        settings, c = self.finetuning, self.config
        if settings is None:
            return None
        name, weights = self.tuned_optimizer, self.shared.weights
        schedule = self.search(name, c.variance)[settings.steps]
        objective = self.objective(name, c.variance)
        config = {
            "finetune": c.finetune,
            "schedule": schedule.parents[1].name,
            "weights": weights.name,
            "dataset": c.dataset,
            "trainer": self.shared.arithmetic,
            "seed": c.seed,
        }
        folder = self.shared.folder("finetune", f"{name}-k{settings.steps:03d}", config)

        def statistics() -> Statistics:
            kinds = () if objective is None else objective.needs
            return {kind: load_statistics(kind)(self.shared.fitted_statistics(kind, weights)) for kind in kinds}

        log.info("finetune    %s", folder)
        finetune(
            folder,
            config,
            settings,
            schedule,
            objective,
            statistics,
            weights,
            self.shared.dataset,
            self.shared.trainer,
            self.shared.logging,
            c.seed,
            self.shared.labels(name) | {"steps": settings.steps},
        )
        return self.shared.charge("finetune", name, folder), schedule

    # Evaluation

    @cached_property
    def evaluated(self) -> list[Path]:
        """The folders of every evaluation of this configuration, and of the fine-tuning behind one."""
        variances = self.shared.evaluation.variances
        folders = []
        for name in self.config.schedule_optimizer:
            files = {variance: self.search(name, variance) for variance in variances}
            folders.append(self._evaluate(name, name, self.shared.weights, files, None, finetuned=False))
        if self.tuned is not None:
            (weights, schedule), name = self.tuned, self.tuned_optimizer
            judged = [self.config.variance] if self.depends_on_variance(name) else variances
            files = {variance: {Schedule.load(schedule).steps: schedule} for variance in judged}
            folder = self._evaluate(name, f"{name} (tuned)", weights, files, [schedule], finetuned=True)
            folders += [folder, weights]
        return [*folders, self._evaluate_reference()]

    def _evaluate(
        self,
        name: str,
        label: str,
        weights: Path,
        files: Mapping[str, Mapping[int, Path]],
        schedules: Sequence[Path] | None,
        *,
        finetuned: bool,
    ) -> Path:
        c, shared = self.config, self.shared
        fitted = shared.fitted_statistics(KIND, weights, schedules)
        judging = shared.judging_statistics(KIND, weights, fitted, schedules)
        config = {
            "evaluation": c.evaluation,
            "solver": c.solver,
            "features": asdict(shared.features),
            "weights": weights.name,
            "schedules": {
                v: sorted({path.parents[1].name for path in by_K.values()}) for v, by_K in files.items()
            },
        }
        folder = shared.folder("evaluate", label.replace(" (tuned)", "-tuned"), config)
        sampled = c.variance if c.variance in files else next(iter(files))
        labels = shared.labels(name) | {"finetuned": finetuned}
        subject = Subject(weights, files, sampled, self.depends_on_variance(name), labels)
        log.info("evaluate    %s", folder)
        evaluate(folder, config, subject, shared.judge, fitted, judging, c.seed)
        return shared.charge("evaluate", name, folder)

    def _evaluate_reference(self) -> Path:
        """The full grid, the floor and the health of the network."""
        c, shared = self.config, self.shared
        fitted = shared.fitted_statistics(KIND, shared.weights)
        judging = shared.judging_statistics(KIND, shared.weights, fitted)
        config = {
            "evaluation": c.evaluation,
            "features": asdict(shared.features),
            "weights": shared.weights.name,
        }
        folder = shared.folder("evaluate", "reference", config)
        labels = shared.labels() | {"finetuned": False}
        log.info("evaluate    %s", folder)
        evaluate_reference(folder, config, shared.judge, shared.dataset, fitted, judging, labels, c.seed)
        return folder

    # Report

    def report(self) -> str:
        """Gather everything; returns the table for the terminal and where the report lies."""
        c = self.config
        config = {"evaluated": [folder.name for folder in self.evaluated], "name": c.name}
        folder = self.shared.folder("report", "", config)
        sources = Sources(
            results=[path / "results.csv" for path in self.evaluated],
            costs=cost_rows(self.shared.spent, self.shared.labels()),
            schedules=[path for name in c.schedule_optimizer for path in self.search(name, c.variance).values()],
            samples=self._samples(),
        )
        log.info("report      %s", folder)
        table = report(folder, config, sources, f"fewstep: {c.name}")
        return f"{table}\nThe report: {folder / 'report.html'}"

    def _samples(self) -> dict[str, dict[str, Path]]:
        """Caption → label of a row → samples, in the order of solver, K and schedule optimizer."""
        pictures: dict[str, dict[str, Path]] = {}
        for solver in self.config.solver:
            for K in self.config.steps:
                files = {
                    folder.name.partition("-seed")[0]: samples_file(folder, solver, K) for folder in self.evaluated
                }
                rows = {label: path for label, path in files.items() if path.exists()}
                if rows:
                    pictures[f"{solver}, {K} steps; a column starts from the same noise in every row"] = rows
        return pictures
