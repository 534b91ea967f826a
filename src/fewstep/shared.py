"""What every stage of a configuration shares: names of runs, the model, statistics, the judge, the cost so far."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from fewstep.artefacts.features import FeatureSettings, features_of, load_features
from fewstep.artefacts.statistics import StatisticsSettings, statistics_of
from fewstep.config import Config
from fewstep.data.base import SPLITS, Dataset, checked_images
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.cost import Spent
from fewstep.judging.settings import Evaluation, Judge
from fewstep.modules.loggers import Logging
from fewstep.modules.progress import Progress
from fewstep.run import fingerprint
from fewstep.schedule import Schedule
from fewstep.stages.pretrain import Pretraining, pretrain

log = logging.getLogger(__name__)

PLACE = (
    "_target_",
    "_partial_",
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "enable_model_summary",
    "enable_progress_bar",
    "use_distributed_sampler",
)


class Shared:
    """The artefacts of one configuration, each made when it is first asked for.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.

    Attributes:
        spent: the finished runs behind everything made so far, for the cost table.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any]) -> None:
        self.config, self.build = config, build
        self.root = Path(config.outputs) / config.name
        self.dataset: Dataset = build(config.dataset)
        self.pretraining: Pretraining = build(config.pretrain)
        self.statistics: StatisticsSettings = build(config.statistics)
        self.evaluation: Evaluation = build(config.evaluation)
        self.features: FeatureSettings = build(config.features)
        self.trainer: Callable[..., pl.Trainer] = build(config.trainer)
        self.logging: Logging = build(config.logger)
        self.process_name = str(config.process["_target_"]).rpartition(".")[2]
        self.spent: list[Spent] = []

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless the dataset, the model and the trainer can be used, with each other too."""
        dataset, levels = self.dataset, self.config.levels
        if dataset.levels != levels:
            raise UserError(f"levels is {levels}, but {dataset.name} has images of {dataset.levels} grey levels.")
        for split in SPLITS:
            checked_images(dataset, split)
        with torch.inference_mode():
            model.eval()(torch.zeros(1, *dataset.shape), model.process.grid[-1])
        try:
            self.trainer(logger=False, enable_checkpointing=False)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(f"The settings under trainer cannot be used: {' '.join(str(error).split())}") from None

    def folder(self, stage: str, label: str, config: Mapping[str, Any]) -> Path:
        """Where a run lies: named by the user, or by what it is of and the fingerprint of its configuration."""
        if self.config.run_name:
            parts = [self.config.run_name, label]
        else:
            parts = [label, f"seed{self.config.seed}", fingerprint(config)]
        return self.root / stage / "-".join(part for part in parts if part)

    @property
    def arithmetic(self) -> dict[str, Any]:
        """The trainer's settings that decide numbers, such as its precision, not merely where they are made."""
        return {key: value for key, value in self.config.trainer.items() if key not in PLACE}

    def charge(self, stage: str, schedule_optimizer: str | None, folder: Path) -> Path:
        """Put a finished run on the bill, once."""
        spent = Spent(stage, schedule_optimizer, folder)
        if spent not in self.spent:
            self.spent.append(spent)
        return folder

    def labels(self, schedule_optimizer: str | None = None) -> dict[str, Any]:
        """What rows of results are of."""
        return {
            "dataset": self.dataset.name,
            "process": self.process_name,
            "schedule_optimizer": schedule_optimizer,
            "train_seed": self.config.seed,
        }

    @cached_property
    def weights(self) -> Path:
        """The folder of the model, trained now unless it lies there."""
        c = self.config
        config = {"dataset": c.dataset, "model": c.model, "pretrain": c.pretrain, "seed": c.seed}
        config["trainer"] = self.arithmetic
        folder = self.folder("pretrain", self.process_name, config)
        log.info("pretrain    %s", folder)

        def make_denoiser() -> Denoiser:
            denoiser: Denoiser = self.build(c.model)
            return denoiser

        pretrain(folder, config, make_denoiser, self.dataset, self.pretraining, self.trainer, self.logging, c.seed)
        return self.charge("pretrain", None, folder)

    def fitted_statistics(self, kind: str, weights: Path, schedules: Sequence[Path] | None = None) -> Path:
        """Statistics of the split behind the search; with `schedules` at their timesteps alone."""
        path = self._statistics(kind, weights, self.statistics, _indices(schedules), None)
        self.charge("statistics" if schedules is None else "evaluate", None, path.parent)
        return path

    def judging_statistics(
        self, kind: str, weights: Path, fitted: Path, schedules: Sequence[Path] | None = None
    ) -> Path:
        """Statistics of the split that judges, `optimal` variances fitted on the file `fitted`."""
        settings = StatisticsSettings(
            split=self.evaluation.split,
            images=self.evaluation.images,
            seed=self.statistics.seed,
            batch_size=self.statistics.batch_size,
        )
        path = self._statistics(kind, weights, settings, _indices(schedules), fitted)
        self.charge("evaluate", None, path.parent)
        return path

    def _statistics(
        self,
        kind: str,
        weights: Path,
        settings: StatisticsSettings,
        indices: Sequence[int] | None,
        fitted: Path | None,
    ) -> Path:
        log.info("statistics  %s on %s, %s", kind, settings.split, weights)
        return statistics_of(
            kind,
            self.root / "statistics",
            weights,
            self.dataset,
            self.config.dataset,
            settings,
            self.trainer,
            indices=indices,
            fitted=fitted,
        )

    @cached_property
    def judge(self) -> Judge:
        """What every subject is judged with; trains the feature extractor unless it lies there."""
        root = self.root / "features"
        log.info("features    %s", root)
        folder = features_of(root, self.dataset, self.config.dataset, self.features, self.trainer)

        def sampling_trainer(description: str) -> pl.Trainer:
            return self.trainer(
                default_root_dir=self.root,
                logger=False,
                enable_checkpointing=False,
                callbacks=[Progress(description)],
            )

        return Judge(
            settings=self.evaluation,
            solvers={name: self.build(node) for name, node in self.config.solver.items()},
            features=load_features(self.charge("features", None, folder)),
            metric=f"fid_{self.dataset.name}",
            shape=self.dataset.shape,
            levels=self.dataset.levels,
            trainer=sampling_trainer,
        )


def _indices(schedules: Sequence[Path] | None) -> list[int] | None:
    """The grid indices that schedules visit; None for the whole grid."""
    if schedules is None:
        return None
    return sorted({index for path in schedules for index in Schedule.load(path).indices[1:]})
