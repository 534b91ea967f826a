"""Stage evaluate in a run: every schedule optimizer, every tuned model, and what all are compared with."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from fewstep.decoders import DECODERS
from fewstep.pipeline.searching import Searches
from fewstep.pipeline.tuning import Tunings
from fewstep.shared import Shared
from fewstep.stages.evaluate import NOTHING_UNTUNED, Subject, evaluate, evaluate_reference
from fewstep.statistics.denoising_error import KIND

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

    @cached_property
    def all(self) -> list[Path]:
        """The folders of every evaluation of this configuration, and of the fine-tuning behind them."""
        variances = self.shared.evaluation.variances
        folders = []
        for name in self.config.schedule_optimizer:
            files = {variance: self.searches.schedules(name, variance) for variance in variances}
            folders.append(self._evaluate(name, name, self.shared.weights, files, None, finetuned=False))
        for name, steps, weights, schedule in self.tunings.all:
            judged = [self.config.variance] if self.searches.depends_on_variance(name) else variances
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
        kinds = dict.fromkeys(kind for node in c.solver.values() for kind in shared.build(node).needs)
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
        self.labels[folder] = label
        sampled = c.variance if c.variance in files else next(iter(files))
        labels = shared.labels(name) | {"finetuned": finetuned}
        subject = Subject(weights, files, sampled, self.searches.depends_on_variance(name), labels)
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
