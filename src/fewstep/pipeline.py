"""The order of the stages: what each one needs is made first, and what is complete is skipped."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.artefacts.statistics import load_statistics
from fewstep.config import Config
from fewstep.decoders import DECODERS, require_steps
from fewstep.denoiser import Denoiser
from fewstep.discovery import find
from fewstep.errors import UserError
from fewstep.judging.cost import cost_rows
from fewstep.objectives.base import Objective, Statistics
from fewstep.search.base import check_steps
from fewstep.shared import Shared
from fewstep.stages.evaluate import NOTHING_UNTUNED, Subject, evaluate, evaluate_reference, samples_file
from fewstep.stages.finetune import WHICH, Finetuning, Tuned, finetune, network_of
from fewstep.stages.report import Sources, report
from fewstep.stages.search import schedule_file, search
from fewstep.statistics.denoising_error import KIND

log = logging.getLogger(__name__)


class Pipeline:
    """The stages of one configuration; each returns where its result lies and is run at most once.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.

    Attributes:
        reported: the folder of the report, once there is one.

    Raises:
        UserError: a setting that some stage would refuse later.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any]) -> None:
        self.config, self.build = config, build
        self.shared = Shared(config, build)
        self.finetuning: Finetuning | None = build(config.finetune) if config.finetune else None
        self.reported: Path | None = None
        self._labels: dict[Path, str] = {}  # of the folders of evaluations
        self._searched: dict[tuple[str, str], dict[int, Path]] = {}
        self._check()

    def _check(self) -> None:
        """Build everything once, so that a wrong setting ends the run before any work is done."""
        c = self.config
        model: Denoiser = self.build(c.model)
        check_steps(c.steps, model.process)
        self.shared.check(model)
        for name, node in c.schedule_optimizer.items():
            self.build(node["search"]).check(self.objective(name, c.variance), model.process)
        for node in c.solver.values():
            self.build(node)
        for name in self.shared.evaluation.sample_steps.keys() - c.solver.keys():
            find("solvers", name)  # a solver that is not chosen may be named, but not one that does not exist
        if c.stage in ("finetune", "evaluate", "report"):
            self._check_tuned(model)
        if c.stage in ("evaluate", "report"):
            require_steps(c.steps, self.shared.evaluation.decoders, self.shared.evaluation.variances)

    def run(self) -> str:
        """Run up to the configured stage; returns what to tell the user."""
        c = self.config
        if c.stage == "pretrain":
            return f"The model: {self.shared.weights}"
        if c.stage == "search":
            found = [path for name in c.schedule_optimizer for path in self.search(name, c.variance).values()]
            return "Schedules:\n" + "\n".join(str(path) for path in found)
        if c.stage == "finetune":
            models = [f"The tuned model: {tuned.weights}" for tuned in self.tuned]
            return "\n".join(models) or "No fine-tuning is configured; set finetune=restricted."
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
        statistics: dict[str, tuple[Path, Callable[[Path], Any]]] = {}
        if objective is not None:
            node["objective"] = self._objective_node(name, variance)
            provenance |= {"objective": node["objective"], "split": self.shared.statistics.split}
            config["statistics"] = c.statistics
            statistics = {kind: self.shared.search_statistics(kind, weights) for kind in objective.needs}
            config |= self.shared.chosen
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
            statistics,
            weights,
            list(c.steps),
            c.seed,
        )
        self.shared.charge("search", name, folder)
        return {K: schedule_file(folder, name, K) for K in c.steps}

    # Fine-tuning

    @property
    def tuned_schedules(self) -> list[tuple[str, int]]:
        """(schedule optimizer, K) of every schedule that a model is tuned for; none where none is configured."""
        settings = self.finetuning
        if settings is None:
            return []
        names = settings.schedule_optimizers or tuple(self.config.schedule_optimizer)[-1:]
        return [(name, K) for name in names for K in settings.all_steps]

    def _check_tuned(self, model: Denoiser) -> None:
        c = self.config
        if self.finetuning is not None:
            self.finetuning.trainable.prepare(network_of(model))
        for name, K in self.tuned_schedules:
            if name not in c.schedule_optimizer or K not in c.steps:
                raise UserError(
                    f"finetune asks for {name} at {K} steps; this run searches "
                    f"{', '.join(c.schedule_optimizer)} at {', '.join(map(str, c.steps))} steps. "
                    "Set finetune.steps and finetune.schedule_optimizer to some of these, or finetune=none."
                )

    @cached_property
    def tuned(self) -> list[Tuned]:
        """Every tuned model."""
        return [self._tuned(name, K) for name, K in self.tuned_schedules]

    def _tuned(self, name: str, steps: int) -> Tuned:
        settings, c, weights = self.finetuning, self.config, self.shared.weights
        assert settings is not None
        assert c.finetune is not None
        schedule = self.search(name, c.variance)[steps]
        objective = self.objective(name, c.variance)
        config = {
            "finetune": {key: value for key, value in c.finetune.items() if key not in WHICH},
            "steps": steps,
            "schedule": schedule.parents[1].name,
            "weights": weights.name,
            "dataset": c.dataset,
            "trainer": self.shared.arithmetic,
            "seed": c.seed,
        }
        folder = self.shared.folder("finetune", f"{name}-k{steps:03d}", config)

        def statistics() -> Statistics:
            kinds = () if objective is None else objective.needs
            at = self.shared.judged_at([schedule])
            return {
                kind: load_statistics(kind)(self.shared.fitted_statistics(kind, weights, at)) for kind in kinds
            }

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
            self.shared.labels(name) | {"steps": steps},
        )
        return Tuned(name, steps, self.shared.charge("finetune", name, folder), schedule)

    # Evaluation

    @cached_property
    def evaluated(self) -> list[Path]:
        """The folders of every evaluation of this configuration, and of the fine-tuning behind them."""
        variances = self.shared.evaluation.variances
        folders = []
        for name in self.config.schedule_optimizer:
            files = {variance: self.search(name, variance) for variance in variances}
            folders.append(self._evaluate(name, name, self.shared.weights, files, None, finetuned=False))
        for name, steps, weights, schedule in self.tuned:
            judged = [self.config.variance] if self.depends_on_variance(name) else variances
            files = {variance: {steps: schedule} for variance in judged}
            label = f"{name}-k{steps:03d}-tuned"
            folders += [self._evaluate(name, label, weights, files, [schedule], finetuned=True), weights]
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
        schedules = schedules or shared.judged_at([path for by_K in files.values() for path in by_K.values()])
        kinds = dict.fromkeys(kind for node in c.solver.values() for kind in self.build(node).needs)
        fitted = {kind: shared.fitted_statistics(kind, weights, schedules) for kind in kinds}
        judging = self._judging(weights, schedules)
        config = {
            "evaluation": c.evaluation,
            "solver": c.solver,
            "features": asdict(shared.features),
            "statistics": c.statistics,
            "weights": weights.name,
            "schedules": {
                v: sorted({path.parents[1].name for path in by_K.values()}) for v, by_K in files.items()
            },
        }
        config |= shared.chosen
        untuned: Mapping[str, Path] = NOTHING_UNTUNED
        if finetuned:
            config["untuned"] = shared.weights.name
            untuned = self._judging(shared.weights, schedules and shared.judged_at(schedules))
        folder = shared.folder("evaluate", label, config)
        self._labels[folder] = label
        sampled = c.variance if c.variance in files else next(iter(files))
        labels = shared.labels(name) | {"finetuned": finetuned}
        subject = Subject(weights, files, sampled, self.depends_on_variance(name), labels)
        log.info("evaluate    %s", folder)
        evaluate(folder, config, subject, shared.judge, fitted, judging, c.seed, untuned)
        return shared.charge("evaluate", name, folder)

    def _judging(self, weights: Path, schedules: Sequence[Path] | None) -> dict[str, Path]:
        """Decoder → the statistics with which it judges a model, `optimal` variances fitted behind the search."""
        kinds = {decoder: DECODERS[decoder].statistics for decoder in self.shared.evaluation.decoders}
        return {
            decoder: self.shared.judging_statistics(
                kind, weights, self.shared.fitted_statistics(kind, weights, schedules), schedules
            )
            for decoder, kind in kinds.items()
        }

    def _evaluate_reference(self) -> Path:
        """The full grid, the floor and the health of the network."""
        c, shared = self.config, self.shared
        whole = shared.judged_at([]) is None  # the full grid is judged only where all of it is measured
        fitted = shared.search_statistics(KIND, shared.weights)[0]
        judging = self._judging(shared.weights, None) if whole else {}
        config = {
            "evaluation": c.evaluation,
            "features": asdict(shared.features),
            "statistics": c.statistics,
            "weights": shared.weights.name,
        } | shared.chosen
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
        folder = self.shared.folder("report", c.part or "", config)
        sources = Sources(
            results=[path / "results.csv" for path in self.evaluated],
            costs=[*cost_rows(self.shared.spent, self.shared.labels()), *self.shared.statistics_rows()],
            schedules=[path for name in c.schedule_optimizer for path in self.search(name, c.variance).values()],
            samples=self._samples(),
        )
        log.info("report      %s", folder)
        table = report(folder, config, sources, f"fewstep: {c.name}{f', {c.part}' if c.part else ''}")
        self.reported = folder
        return f"{table}\nThe report: {folder / 'report.html'}"

    def _samples(self) -> dict[str, dict[str, Path]]:
        """Caption → label of a row → samples, in the order of solver, K and schedule optimizer."""
        pictures: dict[str, dict[str, Path]] = {}
        for solver in self.config.solver:
            for K in self.config.steps:
                rows = {
                    self._labels[folder].replace(f"-k{K:03d}", ""): path
                    for folder in self.evaluated
                    if folder in self._labels and (path := samples_file(folder, solver, K)).exists()
                }
                if rows:
                    pictures[f"{solver}, {K} steps; a column starts from the same noise in every row"] = rows
        return pictures
