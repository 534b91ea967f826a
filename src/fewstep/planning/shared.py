"""What stages share, counted: weights and statistics that are not made have the folders that they would have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.artefacts.identity import Identity
from fewstep.artefacts.search_statistics import Purpose, search_statistics_identity
from fewstep.artefacts.statistics import (
    FILE,
    StatisticsSettings,
    own_settings,
    settings_of,
    statistics_calls,
    statistics_identity,
)
from fewstep.calls import ABOUT, Calls
from fewstep.config import Config
from fewstep.denoiser import Denoiser
from fewstep.modules.loggers import NoLogging
from fewstep.modules.statistics import rows_at_once
from fewstep.planning.ledger import STATISTICS, Ledger, Line
from fewstep.planning.memory import kept_bytes
from fewstep.planning.networks import Networks
from fewstep.record import COMPLETE
from fewstep.run import fingerprint, read_record
from fewstep.shared import Shared, visited
from fewstep.statistics.features import SampleFeatures, load
from fewstep.statistics.growing import TYPICAL_IMAGES
from fewstep.statistics.refinement import expected_timesteps
from fewstep.statistics.tanh_decoder import KIND as TANH
from fewstep.variance import LearnedVariance


class PlannedShared(Shared):
    """`Shared` that writes runs into a ledger instead of making them; nothing is written to a disk.

    What a run that is not made would say of itself, or of its files, is kept here for those that ask.

    Args:
        config: the configuration, resolved.
        build: instantiates a node of it.
        networks: measures the networks.
        ledger: receives the lines.

    Attributes:
        steps: schedule file → K.
        images: statistics file → of how many images.
        expected: run → the facts that its readers are told where it is not complete.
        tuned: the folders of tuned models. They may be the untuned one, or a round may not be reached, so that
            what is measured of them is a bound.
    """

    def __init__(self, config: Config, build: Callable[[Any], Any], networks: Networks, ledger: Ledger) -> None:
        super().__init__(config, build)
        self.logging = NoLogging()
        self.networks, self.ledger = networks, ledger
        self.steps: dict[Path, int] = {}
        self.images: dict[Path, int] = {}
        self.expected: dict[Path, Mapping[str, Any]] = {}
        self.tuned: set[Path] = set()
        self._sizes: dict[str, int] = {}
        self._guesses_images = False

    @cached_property
    def model(self) -> Denoiser:
        """The model as it is before training."""
        model: Denoiser = self.build(self.config.model)
        return model

    def size(self, split: str) -> int:
        """How many images a split has."""
        if split not in self._sizes:
            self._sizes[split] = len(self.dataset.images(split))
        return self._sizes[split]

    def plan(
        self,
        stage: str,
        folder: Path,
        calls: Calls,
        *,
        trainable: Mapping[str, Any] | None = None,
        trains: bool = False,
        recorded: bool = True,
        kept: int = 0,
    ) -> None:
        """Write down what a run takes; of a complete one, what it took."""
        complete = (folder / COMPLETE).is_file()
        if complete and recorded:
            calls = calls.counted(read_record(folder)["network_calls"])
        network = self.networks.of(self.config, self.dataset.shape, trainable)
        self.ledger.add(Line(stage, folder, calls, network, trains, recorded, complete, kept))

    def pretrain(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Count the training of the model."""
        self.plan("pretrain", folder, self.pretraining.calls, trains=True)
        validation = self.pretraining.validation_calls(self.model.process.T, self.size("validation"))
        if validation.total:
            self.plan("pretrain, validation", folder, validation, recorded=False)

    def facts(self, folder: Path) -> Mapping[str, Any]:
        """What a run says of itself, or is expected to."""
        if (folder / COMPLETE).is_file():
            return super().facts(folder)
        facts = self.expected[folder]
        self._guesses_images |= "images" in facts
        return facts

    def sample_features(self) -> tuple[Path, Callable[[Path], SampleFeatures]]:
        """The judge, which is not made; its network is another, and is not counted."""
        path = self.root / "features" / "planned"
        self.images[path] = 0
        return path, load

    def grow_statistics(self, kind: str, weights: Path, purpose: Purpose) -> Path:
        """Count the statistics that are measured as far as a search needs them: roughly, unless that is whole."""
        settings, T = self.statistics, self.model.process.T
        dataset, arithmetic = self.config.dataset, self.arithmetic
        identity = search_statistics_identity(kind, weights, dataset, settings, purpose, arithmetic)
        asked = TYPICAL_IMAGES if settings.images == "auto" else settings.images
        timesteps = expected_timesteps(T) if settings.timesteps == "auto" else T
        images = self._images(asked, settings.split)
        calls = statistics_calls(kind, images, timesteps, settings, self.dataset.shape)
        if timesteps < T or settings.images == "auto":
            calls = replace(calls, mark=ABOUT)
        folder = self.folder_of(self.root / "statistics", identity)
        self.expected[folder] = {"images": images}
        return self._statistics_file(folder, settings.split, weights, calls, images)

    def measure_statistics(
        self,
        kind: str,
        weights: Path,
        settings: StatisticsSettings,
        schedules: Sequence[Path] | None,
        fitted: Path | None,
    ) -> Path:
        """Count statistics; where the schedules are not found yet, at no more timesteps than they can have."""
        if own_settings(kind, settings):
            schedules = None
        schedules = None if schedules is None else sorted(set(schedules))
        guessed = self._guesses_images and settings.split == self.statistics.split
        settings, timesteps = settings_of(kind, settings), self.model.process.T
        known = schedules is None or all(path.is_file() for path in schedules)
        indices = visited(schedules) if known else None
        dataset, arithmetic = self.config.dataset, self.arithmetic
        named = (kind, weights, dataset, settings, indices, fitted, arithmetic)
        identity = statistics_identity(*named, means=fitted is None)
        if indices is not None:
            timesteps = len(indices)
        elif schedules is not None:
            identity = replace(identity, config=dict(identity.config) | {"schedules": [*map(str, schedules)]})
            timesteps = min(timesteps, 1 + sum(self.steps[path] - 1 for path in schedules))  # all of them end at T
        assert settings.images != "auto"
        images = self._images(settings.images, settings.split)
        calls = statistics_calls(kind, images, timesteps, settings, self.dataset.shape)
        if not known and len(schedules or ()) > 1:
            calls = calls.at_most()
        if guessed and calls.total:
            calls = replace(calls, mark=ABOUT)
        folder = self.folder_of(self.root / "statistics", identity)
        kept = 0 if fitted is None else self._kept_bytes(kind, images, timesteps)
        return self._statistics_file(folder, settings.split, weights, calls, images, kept)

    def tanh_decoder(
        self, weights: Path, clipped: Path, judged: Sequence[Path], at: Sequence[Path] | None
    ) -> Path:
        """Count a network call per image and first node, of which there are no more than schedules."""
        split = self.evaluation.split
        images = self._images(self.evaluation.images, split)
        calls = Calls(images * (len(set(judged)) + (at is None))).at_most()
        of = {"clipped": str(clipped), "schedules": sorted(map(str, judged))}
        folder = self.root / "statistics" / f"{TANH}-planned-{fingerprint(of)}"
        return self._statistics_file(folder, split, weights, calls, images)

    def count_statistics(
        self,
        kind: str,
        weights: Path,
        settings: StatisticsSettings,
        indices: Sequence[int],
        arithmetic: Mapping[str, Any],
    ) -> Path:
        """Count statistics at some grid indices; priced in the run's precision, whatever they are in."""
        dataset = self.config.dataset
        identity = statistics_identity(kind, weights, dataset, settings, indices, None, arithmetic)
        images = self._images(settings.images, settings.split)
        folder = self.folder_of(self.root / "statistics", identity)
        calls = statistics_calls(kind, images, len(indices), settings, self.dataset.shape)
        return self._statistics_file(folder, settings.split, weights, calls, images)

    def _kept_bytes(self, kind: str, images: int, timesteps: int) -> int:
        learned = LearnedVariance.name in (self.config.variance, *self.evaluation.variances)
        return kept_bytes(kind, self.model.process, images, timesteps, learned=learned)

    def _statistics_file(
        self, folder: Path, split: str, weights: Path, calls: Calls, images: int, kept: int = 0
    ) -> Path:
        device = self.networks.of(self.config, self.dataset.shape).device
        calls = replace(calls, batch=min(self.statistics.batch_size, images) * rows_at_once(device))
        if weights in self.tuned and calls.total:
            calls = calls.at_most()
        self.plan(f"{STATISTICS}, {split}", folder, calls, kept=kept)
        self.images[folder / FILE] = images
        return folder / FILE

    def _images(self, asked: Any, split: str) -> int:
        return self.size(split) if asked is None else min(int(asked), self.size(split))

    @staticmethod
    def folder_of(root: Path, identity: Identity) -> Path:
        """An artefact's folder; where it reads files that are not made yet, one that no artefact has."""
        made = all(path.is_file() for path in identity.inputs.values())
        if made and any(root.glob(f"{identity.prefix}-*")):  # else there is no need to hash the inputs
            return identity.folder(root)
        inputs = {name: str(path) for name, path in identity.inputs.items()}
        return root / f"{identity.prefix}-planned-{fingerprint({**identity.config, 'inputs': inputs})}"
