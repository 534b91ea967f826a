"""The root of the configuration: which keys there are, and what a run's settings must fulfil."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewstep.errors import UserError
from fewstep.noise import check_seed

MOST_THREADS = 1024  # OpenMP sets memory aside for each
STAGES = ("pretrain", "search", "finetune", "evaluate", "report")


@dataclass(frozen=True, kw_only=True)
class Config:
    """All top-level keys, in the order of conf/config.yaml.

    Attributes:
        stage: how far to go; every stage first completes those that it needs.
        name: the experiment's name, the folder of its runs under `outputs`.
        part: which part of an experiment of several this is, or None; it names the report.
        run_name: the name of every run's folder; None names each after its configuration.
        outputs: where runs go.
        seed: of weights, batches and fine-tuning.
        steps: the K's that schedules are searched for.
        variance: the variance kind of objectives and stochastic solvers.
        decoder: the decoder's convention of objectives, and of what is judged unless evaluation.decoders says.
        levels: grey levels of the data; the dataset sets it.
        data_std: standard deviation of the data per pixel; the dataset sets it.
        threads: threads of a CPU; None for all, or for one where jobs of a sweep run side by side.
        returns: a metric whose mean over the job's results a sweeper that chooses jobs by it is told, or None.
        model: backbone, parameterisation and process → denoiser.
        pretrain: how it is trained.
        dataset: real images.
        process: the forward process.
        statistics: what statistics are estimated on.
        schedule_optimizer: name → objective and search.
        solver: name → solver.
        finetune: restricted fine-tuning, or None.
        evaluation: what is measured.
        features: the feature extractor that judges samples.
        report: which table of all runs is made in place of the run's own report, if any.
        trainer: makes Lightning's trainer.
        logger: where training curves go, and the dashboard.
    """

    stage: str
    name: str
    part: str | None
    run_name: str | None
    outputs: str
    seed: int
    steps: Sequence[int]
    variance: str
    decoder: str
    levels: int
    data_std: float
    threads: int | None
    returns: str | None
    model: Mapping[str, Any]
    pretrain: Mapping[str, Any]
    dataset: Mapping[str, Any]
    process: Mapping[str, Any]
    statistics: Mapping[str, Any]
    schedule_optimizer: Mapping[str, Mapping[str, Any]]
    solver: Mapping[str, Mapping[str, Any]]
    finetune: Mapping[str, Any] | None
    evaluation: Mapping[str, Any]
    features: Mapping[str, Any]
    report: Mapping[str, Any]
    trainer: Mapping[str, Any]
    logger: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UserError(f"There is no stage {self.stage!r}; allowed are {', '.join(STAGES)}.")
        if self.report.get("table") is not None and self.stage != "report":
            raise UserError(
                f"report.table is {self.report['table']!r}, but stage is {self.stage!r}; allowed is stage=report."
            )
        for key, name in (("name", self.name), ("part", self.part), ("run_name", self.run_name)):
            if name is not None and (name in ("", ".", "..") or "/" in name or "\\" in name):
                raise UserError(f"{key} is {name!r}, but names a folder: one word without slashes.")
        check_seed(self.seed, "seed")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UserError(
                f"threads is {self.threads}, but must be at least 1 and at most {MOST_THREADS:,}, or null for all "
                "of them."
            )
        if self.levels < 2 or not 0 < self.data_std < math.inf:
            raise UserError(
                f"levels is {self.levels} and data_std {self.data_std}; there must be at least 2 grey levels "
                "and a positive standard deviation."
            )
        if not self.schedule_optimizer:
            raise UserError("No schedule optimizer is chosen; set schedule_optimizer to one or a list of them.")
        for name, node in self.schedule_optimizer.items():
            _check_schedule_optimizer(f"schedule_optimizer.{name}", node)
        if self.statistics.get("split") == self.evaluation.get("split"):
            raise UserError(
                f"Schedules would be searched and judged on the same split, {self.evaluation.get('split')!r}; "
                "set statistics.split and evaluation.split to different ones."
            )


def _check_schedule_optimizer(path: str, node: Mapping[str, Any]) -> None:
    surplus = sorted(node.keys() - {"objective", "search"})
    if surplus:
        raise UserError(f"{path}.{surplus[0]} is not a setting; {path} takes an objective and a search.")
    if not isinstance(node.get("search"), Mapping):
        raise UserError(f"{path}.search is {node.get('search')!r}, but must be a section that describes a search.")
    if not isinstance(node.get("objective"), Mapping | None):
        raise UserError(
            f"{path}.objective is {node['objective']!r}, but must be null or a section that describes it."
        )
