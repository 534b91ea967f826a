"""What every stage of a configuration shares: names of runs, the model, statistics, the judge, the cost so far."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from fewstep.artefacts.features import (
    REFERENCE,
    FeatureExtractor,
    judging_trainer,
    kept_features_of,
    load_kept_features,
)
from fewstep.artefacts.search_statistics import (
    Purpose,
    load_search_statistics,
    purpose_of,
    search_statistics_of,
    statistics_rows,
)
from fewstep.artefacts.statistics import StatisticsSettings, grows, load_statistics, statistics_of
from fewstep.artefacts.tanh_decoder import first_pairs, tanh_decoder_of
from fewstep.config import Config
from fewstep.data.base import SPLITS, Dataset, checked_images, checked_labels
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.cost import Spent
from fewstep.judging.settings import Evaluation, Judge
from fewstep.losses.base import require_fraction
from fewstep.modules.loggers import Logging
from fewstep.modules.trainers import arithmetic_of, check_trainer, with_half_networks, with_whole_networks
from fewstep.results import Result
from fewstep.run import fingerprint, read_record
from fewstep.schedule import Schedule
from fewstep.stages.pretrain import Pretraining, checkpoint_files, pretrain, require_weights
from fewstep.statistics.features import KIND as FEATURES
from fewstep.statistics.features import SampleFeatures
from fewstep.variance import no_variance_head

log = logging.getLogger(__name__)


class Shared:
    """The artefacts of one configuration, each made when it is first asked for.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.

    Attributes:
        training: makes the trainers of training.
        spent: the finished runs behind everything made so far, for the cost table.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any]) -> None:
        self.config, self.build = config, build
        self.root = Path(config.outputs) / config.name
        self.dataset: Dataset = build(config.dataset)
        self.pretraining: Pretraining = build(config.pretrain)
        self.statistics: StatisticsSettings = build(config.statistics)
        self.evaluation: Evaluation = build(config.evaluation)
        self.features: FeatureExtractor = build(config.features)
        self.training: Callable[..., pl.Trainer] = with_half_networks(build(config.trainer))
        self.logging: Logging = build(config.logger)
        self.process_name = str(config.process["_target_"]).rpartition(".")[2]
        self.spent: list[Spent] = []
        self._announced: set[tuple[str, str, Path]] = set()

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless the dataset, the model and the trainer can be used, with each other too."""
        dataset, levels = self.dataset, self.config.levels
        if dataset.levels != levels:
            raise UserError(f"levels is {levels}, but {dataset.name} has images of {dataset.levels} grey levels.")
        require_weights(self.pretraining, self.config.model)
        for split in SPLITS:
            checked_images(dataset, split)
            checked_labels(dataset, split, model.num_classes)
        label = None if model.num_classes is None else torch.zeros(1, dtype=torch.int64)
        with torch.inference_mode():
            prediction = model.eval()(torch.zeros(1, *dataset.shape), model.process.grid[-1], label)
        if self.pretraining.loss.learns_variance:
            require_fraction(prediction, self.pretraining.loss.name)
        if prediction.fraction is None and "learned" in (self.config.variance, *self.evaluation.variances):
            raise no_variance_head()
        check_trainer(self.training)

    def folder(self, stage: str, label: str, config: Mapping[str, Any]) -> Path:
        """Where a run lies: named by the user, or by what it is of and the fingerprint of its configuration."""
        if self.config.run_name:
            parts = [self.config.run_name, label]
        else:
            parts = [label, f"seed{self.config.seed}", fingerprint(config)]
        return self.root / stage / "-".join(part for part in parts if part)

    @cached_property
    def trainer(self) -> Callable[..., pl.Trainer]:
        """What makes the trainers of all work but training."""
        return with_whole_networks(self.training)

    @property
    def arithmetic(self) -> dict[str, Any]:
        """The trainer's settings that decide numbers, such as its precision, not merely where they are made."""
        return arithmetic_of(self.config.trainer)

    def charge(self, stage: str, schedule_optimizer: str | None, folder: Path) -> Path:
        """Put a finished run on the bill, once, and show it."""
        spent = Spent(stage, schedule_optimizer, folder)
        if spent not in self.spent:
            self.spent.append(spent)
            self.logging.show(folder)
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
        self.pretrain(folder, config)
        return self.charge("pretrain", None, folder)

    def pretrain(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Train the model into a folder."""
        c = self.config

        def make() -> Denoiser:
            return self.build(c.model)

        settings, files = self.pretraining, checkpoint_files(c.model)
        pretrain(folder, config, make, self.dataset, settings, self.training, self.logging, c.seed, files)

    @cached_property
    def purpose(self) -> Purpose:
        """What statistics behind a search are for, which are measured once for all of it."""
        c, variances = self.config, sorted({self.config.variance, *self.evaluation.variances})
        return purpose_of(c.schedule_optimizer, c.steps, variances, self.build)

    def search_statistics(
        self, kind: str, weights: Path, charged_to: str | None = None
    ) -> tuple[Path, Callable[[Path], Any]]:
        """The file of the statistics behind a search, and the function that reads it for all timesteps.

        With `auto` settings the file holds some timesteps, and what lies between them is interpolated. They are
        charged to all schedule optimizers, or to the one that alone reads them.
        """
        if kind == FEATURES:
            return self.sample_features()
        purpose = self.purpose.reading(kind)
        if not self.statistics.adaptive or not grows(kind) or not purpose.objectives:
            return self.fitted_statistics(kind, weights, None, charged_to), load_statistics(kind)
        self._announce(kind, self.statistics.split, weights)
        path = self.grow_statistics(kind, weights, purpose)
        self.charge("statistics", charged_to, path.parent)
        return path, load_search_statistics(kind)

    def sample_features(self) -> tuple[Path, Callable[[Path], SampleFeatures]]:
        """The judge, for an objective that lowers its distance: its reference's file, and what reads it all."""
        dataset = self.dataset

        def load(path: Path) -> SampleFeatures:
            found = self.features.load(path.parent, dataset)
            return SampleFeatures(found.extractor, found.reference, dataset.shape, dataset.levels)

        return self._features_folder / REFERENCE, load

    def grow_statistics(self, kind: str, weights: Path, purpose: Purpose) -> Path:
        """The file of the statistics that are measured as far as a search needs them."""
        root = self.root / "statistics"
        return search_statistics_of(
            *(kind, root, weights, self.dataset, self.config.dataset, self.statistics, self.trainer, purpose),
            arithmetic=self.arithmetic,
        )

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """What a finished run says of itself."""
        return dict(read_record(folder)["facts"])

    @cached_property
    def _adaptive(self) -> list[Path]:
        """The folders of the statistics that `auto` settings have decided on."""
        if not self.statistics.adaptive:
            return []
        kinds = dict.fromkeys(kind for objective in self.purpose.objectives for kind in objective.needs)
        growing = [kind for kind in kinds if grows(kind) and self.purpose.reading(kind).objectives]
        return [self.search_statistics(kind, self.weights)[0].parent for kind in growing]

    @property
    def chosen(self) -> dict[str, Any]:
        """What runs that read statistics add to their configuration: the arithmetic, and what `auto` led to.

        Such statistics are refined for all objectives of a run, so that its own settings do not name them.
        """
        measured = {"measured": [folder.name for folder in self._adaptive]} if self._adaptive else {}
        return {"trainer": self.arithmetic} | measured

    def statistics_rows(self) -> list[Result]:
        """What `auto` settings saved and lost; none without them."""
        return statistics_rows(self._adaptive, self.statistics, self.labels())

    @cached_property
    def _fitted_settings(self) -> StatisticsSettings:
        """The settings with a number of images: as many as were needed for the search."""
        if self.statistics.images != "auto":
            return self.statistics
        needed = [int(self.facts(folder)["images"]) for folder in self._adaptive]
        return replace(self.statistics, images=max(needed))

    def judged_at(self, schedules: Sequence[Path]) -> Sequence[Path] | None:
        """The schedules whose timesteps alone are measured to judge them; None for all of the grid.

        What judges is never interpolated.
        """
        return schedules if self.statistics.timesteps == "auto" else None

    def fitted_statistics(
        self, kind: str, weights: Path, schedules: Sequence[Path] | None = None, charged_to: str | None = None
    ) -> Path:
        """Statistics of the split behind the search, all measured; with `schedules` at their timesteps alone."""
        path = self.measure_statistics(kind, weights, self._fitted_settings, schedules, None)
        self.charge("statistics" if schedules is None else "evaluate", charged_to, path.parent)
        return path

    def validation_statistics(
        self, kind: str, weights: Path, fitted: Path, schedule: Path, charged_to: str
    ) -> Path:
        """Statistics of all validation images at a schedule's timesteps, with the same noise for every model."""
        settings = replace(self._judging_settings, split="validation", images=None)
        path = self.measure_statistics(kind, weights, settings, [schedule], fitted)
        self.charge("finetune", charged_to, path.parent)
        return path

    def judging_statistics(
        self, kind: str, weights: Path, fitted: Path, schedules: Sequence[Path] | None = None
    ) -> Path:
        """Statistics of the split that judges, `optimal` variances fitted on the file `fitted`."""
        path = self.measure_statistics(kind, weights, self._judging_settings, schedules, fitted)
        self.charge("evaluate", None, path.parent)
        return path

    @property
    def _judging_settings(self) -> StatisticsSettings:
        judge, search = self.evaluation, self.statistics
        return StatisticsSettings(
            judge.split, judge.images, search.seed, search.batch_size, teacher=search.teacher
        )

    def tanh_decoder(
        self, weights: Path, clipped: Path, judged: Sequence[Path], at: Sequence[Path] | None
    ) -> Path:
        """The first step's terms in improved-diffusion's own arithmetic, beside the judging file `clipped`."""
        path = tanh_decoder_of(
            *(self.root / "statistics", weights, self.dataset, self.config.dataset, self._judging_settings),
            *(self.trainer, self.arithmetic, clipped, first_pairs(judged, at)),
        )
        return self.charge("evaluate", None, path.parent) / path.name

    def _announce(self, kind: str, split: str, weights: Path) -> None:
        """Say once which statistics are asked for; every search and every judge asks again."""
        if (kind, split, weights) not in self._announced:
            self._announced.add((kind, split, weights))
            log.info("statistics  %s on %s, %s", kind, split, weights)

    def measure_statistics(
        self,
        kind: str,
        weights: Path,
        settings: StatisticsSettings,
        schedules: Sequence[Path] | None,
        fitted: Path | None,
    ) -> Path:
        """The file of statistics at the timesteps that schedules visit; of all of the grid without any.

        What nothing is `fitted` for stands behind searches and fits, which look at means alone.
        """
        self._announce(kind, settings.split, weights)
        return statistics_of(
            kind,
            self.root / "statistics",
            weights,
            self.dataset,
            self.config.dataset,
            settings,
            self.trainer,
            arithmetic=self.arithmetic,
            indices=visited(schedules),
            fitted=fitted,
            means=fitted is None,
        )

    @cached_property
    def _features_folder(self) -> Path:
        """The folder of the feature extractor, made unless it lies there."""
        root = self.root / "features"
        log.info("features    %s", root)
        folder = self.features.make(root, self.dataset, self.config.dataset, self.trainer)
        return self.charge("features", None, folder)

    @cached_property
    def judge(self) -> Judge:
        """What every subject is judged with."""
        root, folder = self.root / "features", self._features_folder
        features = self.features.load(folder, self.dataset)
        kept = None
        if self.evaluation.sample_metrics:
            most = self.evaluation.samples  # as many real images as samples, where there are
            made = kept_features_of(root, folder, features, self.dataset, self.config.dataset, most, self.trainer)
            kept = load_kept_features(self.charge("features", None, made))
        return Judge(
            settings=self.evaluation,
            solvers={name: self.build(node) for name, node in self.config.solver.items()},
            features=features,
            shape=self.dataset.shape,
            levels=self.dataset.levels,
            trainer=partial(judging_trainer, self.trainer, self.root),
            kept_features=kept,
        )


def visited(schedules: Sequence[Path] | None) -> list[int] | None:
    """The grid indices that schedules visit; None for the whole grid."""
    if schedules is None:
        return None
    return sorted({index for path in schedules for index in Schedule.load(path).indices[1:]})
