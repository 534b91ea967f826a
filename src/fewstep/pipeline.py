"""The order of the stages: what each one needs is made first, and what is complete is skipped."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from fewstep.artefacts.features import Features, FeatureSettings, features_of, load_features
from fewstep.artefacts.statistics import StatisticsSettings, load_statistics, statistics_of
from fewstep.config import Config
from fewstep.data.base import Dataset
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.cost import Spent, cost_rows
from fewstep.judging.settings import Evaluation, Judge
from fewstep.modules.loggers import Logging
from fewstep.objectives.base import Objective
from fewstep.run import fingerprint
from fewstep.schedule import Schedule
from fewstep.stages.evaluate import Subject, evaluate, evaluate_reference, samples_file
from fewstep.stages.finetune import Finetuning, finetune
from fewstep.stages.pretrain import Pretraining, pretrain
from fewstep.stages.report import Sources, report
from fewstep.stages.search import schedule_file, search
from fewstep.statistics.denoising_error import KIND

log = logging.getLogger(__name__)


class Pipeline:
    """The stages of one configuration, each a method that returns where its result lies.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it, with overrides.
    """

    def __init__(self, config: Config, build: Callable[..., Any]) -> None:
        self.config, self.build = config, build
        self.root = Path(config.outputs) / config.name
        self.dataset: Dataset = build(config.dataset)
        self.pretraining: Pretraining = build(config.pretrain)
        self.statistics: StatisticsSettings = build(config.statistics)
        self.evaluation: Evaluation = build(config.evaluation)
        self.features: FeatureSettings = build(config.features)
        self.finetuning: Finetuning | None = build(config.finetune) if config.finetune else None
        self.trainer: Callable[..., pl.Trainer] = build(config.trainer)
        self.logging: Logging = build(config.logger)
        self.spent: list[Spent] = []
        for name in config.schedule_optimizer:
            self.objective(name, config.variance)  # a wrong setting ends the run before any work is done

    def run(self) -> str | None:
        """Run up to the configured stage; returns the report's table where that is the report."""
        if self.config.stage == "report":
            return self.report()
        {
            "pretrain": self.pretrain,
            "search": self.search_all,
            "finetune": self.finetune,
            "evaluate": self.evaluate_all,
        }[self.config.stage]()
        return None

    # Names of runs and what decides them

    def _folder(self, stage: str, label: str, config: Mapping[str, Any]) -> Path:
        if self.config.run_name:
            parts = [self.config.run_name, label]
        else:
            parts = [label, f"seed{self.config.seed}", fingerprint(config)]
        return self.root / stage / "-".join(part for part in parts if part)

    def _spend(self, stage: str, schedule_optimizer: str | None, folder: Path) -> Path:
        spent = Spent(stage, schedule_optimizer, folder)
        if spent not in self.spent:
            self.spent.append(spent)
        return folder

    def _labels(self, schedule_optimizer: str | None, finetuned: bool | None) -> dict[str, Any]:
        return {
            "dataset": self.dataset.name,
            "process": str(self.config.process["_target_"]).rpartition(".")[2],
            "schedule_optimizer": schedule_optimizer,
            "finetuned": finetuned,
            "train_seed": self.config.seed,
        }

    # Shared artefacts

    def pretrain(self) -> Path:
        """The folder of the model."""
        c = self.config
        config = {"dataset": c.dataset, "model": c.model, "pretrain": c.pretrain, "seed": c.seed}
        folder = self._folder("pretrain", str(self._labels(None, None)["process"]), config)

        def make_denoiser() -> Denoiser:
            denoiser: Denoiser = self.build(c.model)
            return denoiser

        log.info("pretrain: %s", folder)
        pretrain(folder, config, make_denoiser, self.dataset, self.pretraining, self.trainer, self.logging, c.seed)
        return self._spend("pretrain", None, folder)

    def statistics_file(
        self, kind: str, weights: Path, schedules: list[Path] | None = None, judging: Path | None = None
    ) -> Path:
        """Statistics behind the search, or, with `judging` the file that they are fitted on, those that judge.

        With `schedules` they hold the timesteps of these alone, else the whole grid.
        """
        settings = self.statistics
        if judging is not None:
            settings = StatisticsSettings(
                self.evaluation.split, self.evaluation.images, self.statistics.seed, self.statistics.batch_size
            )
        indices = None
        if schedules is not None:
            indices = sorted({index for path in schedules for index in Schedule.load(path).indices[1:]})
        path = statistics_of(
            kind,
            self.root / "statistics",
            weights,
            self.dataset,
            self.config.dataset,
            settings,
            self.trainer,
            indices=indices,
            fitted=judging,
        )
        self._spend(
            "evaluate" if judging is not None or schedules is not None else "statistics", None, path.parent
        )
        return path

    @cached_property
    def judge(self) -> Judge:
        """What every subject is judged with; trains the feature extractor where none lies there."""
        folder = features_of(
            self.root / "features", self.dataset, self.config.dataset, self.features, self.trainer
        )
        features: Features = load_features(self._spend("features", None, folder))
        return Judge(
            settings=self.evaluation,
            solvers={name: self.build(node) for name, node in self.config.solver.items()},
            features=features,
            metric=f"fid_{self.dataset.name}",
            shape=self.dataset.shape,
            levels=self.dataset.levels,
            trainer=lambda: self.trainer(default_root_dir=self.root, logger=False, enable_checkpointing=False),
        )

    # Stages

    def depends_on_variance(self, name: str) -> bool:
        """Whether a schedule optimizer is searched anew for every variance kind."""
        return "variance" in (self.config.schedule_optimizer[name].get("objective") or {})

    def objective(self, name: str, variance: str) -> Objective | None:
        """The objective of a schedule optimizer; None for a fixed rule."""
        node = self.config.schedule_optimizer[name].get("objective")
        if node is None:
            return None
        chosen = {"variance": variance} if self.depends_on_variance(name) else {}
        objective: Objective = self.build(node, **chosen)
        return objective

    def search(self, name: str, variance: str) -> dict[int, Path]:
        """K → schedule file of one schedule optimizer."""
        c, node = self.config, self.config.schedule_optimizer[name]
        objective = self.objective(name, variance)
        weights = self.pretrain()
        config: dict[str, Any] = {"schedule_optimizer": node, "steps": list(c.steps), "weights": weights.name}
        provenance: dict[str, Any] = {"schedule_optimizer": name, "search": node["search"]}
        label = name
        files: dict[str, Path] = {}
        if objective is not None:
            # The model is told the root's variance; the label and the folder tell the one that was searched with.
            objective_node = dict(node["objective"])
            if self.depends_on_variance(name):
                objective_node["variance"] = variance
                label = f"{name}-{variance}"
            config |= {"schedule_optimizer": {**node, "objective": objective_node}, "statistics": c.statistics}
            provenance |= {"objective": objective_node, "split": self.statistics.split}
            files = {kind: self.statistics_file(kind, weights) for kind in objective.needs}
        folder = self._folder("search", label, config)
        log.info("search: %s", folder)
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
        self._spend("search", name, folder)
        return {K: schedule_file(folder, name, K) for K in c.steps}

    def search_all(self) -> None:
        """Every schedule optimizer, for the run's variance."""
        for name in self.config.schedule_optimizer:
            self.search(name, self.config.variance)

    @property
    def tuned_optimizer(self) -> str:
        """Whose schedule the model is tuned for."""
        assert self.finetuning is not None
        return self.finetuning.schedule_optimizer or list(self.config.schedule_optimizer)[-1]

    def finetune(self) -> tuple[Path, Path] | None:
        """The folder of the tuned model and its schedule; None where no fine-tuning is configured."""
        settings, c = self.finetuning, self.config
        if settings is None:
            return None
        name = self.tuned_optimizer
        if name not in c.schedule_optimizer or settings.steps not in c.steps:
            raise UserError(
                f"finetune asks for {name} at {settings.steps} steps; this run searches "
                f"{', '.join(c.schedule_optimizer)} at {', '.join(map(str, c.steps))}."
            )
        weights, schedule = self.pretrain(), self.search(name, c.variance)[settings.steps]
        objective = self.objective(name, c.variance)
        config = {
            "finetune": c.finetune,
            "schedule": schedule.parent.parent.name,
            "weights": weights.name,
            "dataset": c.dataset,
            "seed": c.seed,
        }
        folder = self._folder("finetune", f"{name}-k{settings.steps:03d}", config)
        kinds = () if objective is None else objective.needs
        log.info("finetune: %s", folder)
        finetune(
            folder,
            config,
            settings,
            schedule,
            objective,
            lambda: {kind: load_statistics(kind)(self.statistics_file(kind, weights)) for kind in kinds},
            weights,
            self.dataset,
            self.trainer,
            self.logging,
            c.seed,
            {k: v for k, v in self._labels(name, None).items() if k != "finetuned"} | {"steps": settings.steps},
        )
        return self._spend("finetune", name, folder), schedule

    def evaluate(self, name: str) -> Path:
        """The evaluation of a schedule optimizer on the model as it was trained."""
        c = self.config
        depends = self.depends_on_variance(name)
        files = {v: self.search(name, v if depends else c.variance) for v in self.evaluation.variances}
        return self._evaluate(name, name, self.pretrain(), files, None, finetuned=False)

    def evaluate_tuned(self) -> list[Path]:
        """The evaluation of the tuned model at the schedule that it was tuned for, if there is one."""
        tuned = self.finetune()
        if tuned is None:
            return []
        (weights, schedule), name = tuned, self.tuned_optimizer
        variances = [self.config.variance] if self.depends_on_variance(name) else self.evaluation.variances
        files = {variance: {Schedule.load(schedule).steps: schedule} for variance in variances}
        return [self._evaluate(name, f"{name}-finetuned", weights, files, [schedule], finetuned=True), weights]

    def _evaluate(
        self,
        name: str,
        label: str,
        weights: Path,
        files: Mapping[str, Mapping[int, Path]],
        schedules: list[Path] | None,
        *,
        finetuned: bool,
    ) -> Path:
        c = self.config
        fitted = self.statistics_file(KIND, weights, schedules)
        judging = self.statistics_file(KIND, weights, schedules, judging=fitted)
        config = {
            "evaluation": c.evaluation,
            "solver": c.solver,
            "features": asdict(self.features),
            "weights": weights.name,
            "schedules": {
                v: sorted({path.parent.parent.name for path in by_K.values()}) for v, by_K in files.items()
            },
        }
        folder = self._folder("evaluate", label, config)
        sampled = c.variance if c.variance in files else next(iter(files))
        subject = Subject(weights, files, sampled, self.depends_on_variance(name), self._labels(name, finetuned))
        log.info("evaluate: %s", folder)
        evaluate(folder, config, subject, self.judge, fitted, judging, c.seed)
        return self._spend("evaluate", name, folder)

    def evaluate_reference(self) -> Path:
        """The full grid, the floor and the health of the network."""
        weights = self.pretrain()
        fitted = self.statistics_file(KIND, weights)
        judging = self.statistics_file(KIND, weights, judging=fitted)
        config = {"evaluation": self.config.evaluation, "features": asdict(self.features), "weights": weights.name}
        folder = self._folder("evaluate", "reference", config)
        labels = self._labels(None, False)
        log.info("evaluate: %s", folder)
        evaluate_reference(folder, config, self.judge, self.dataset, fitted, judging, labels, self.config.seed)
        return folder

    def evaluate_all(self) -> list[Path]:
        """Every evaluation of this configuration: the folders that hold its results."""
        folders = [self.evaluate(name) for name in self.config.schedule_optimizer]
        return [*folders, *self.evaluate_tuned(), self.evaluate_reference()]

    def report(self) -> str:
        """Gather everything; returns the table for the terminal and where the report lies."""
        c = self.config
        evaluated = self.evaluate_all()
        config = {"evaluated": [folder.name for folder in evaluated], "name": c.name}
        schedules = [path for name in c.schedule_optimizer for path in self.search(name, c.variance).values()]
        folder = self._folder("report", "", config)
        sources = Sources(
            results=[path / "results.csv" for path in evaluated],
            costs=cost_rows(self.spent, self._labels(None, None)),
            schedules=schedules,
            samples=self._samples(evaluated),
        )
        log.info("report: %s", folder)
        table = report(folder, config, sources, f"fewstep: {c.name}")
        return f"{table}\nThe report: {folder / 'report.html'}"

    def _samples(self, evaluated: list[Path]) -> dict[str, dict[str, Path]]:
        """Caption → label → samples, in the order of solver, K and schedule optimizer."""
        pictures: dict[str, dict[str, Path]] = {}
        for solver in self.config.solver:
            for K in self.config.steps:
                rows = {}
                for folder in evaluated:
                    path = samples_file(folder, solver, K)
                    if path.exists():
                        label = folder.name.partition("-seed")[0]
                        rows[label] = path
                if rows:
                    pictures[f"{solver}, {K} steps; every row starts from the same noise"] = rows
        return pictures
