"""Stage search in a run: every schedule optimizer's schedules, under every variance kind that they depend on."""

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.denoiser import Denoiser
from fewstep.objectives.base import Objective
from fewstep.shared import Shared
from fewstep.stages.search import schedule_file, search

log = logging.getLogger(__name__)


class Searches:
    """The schedules of one configuration.

    Args:
        shared: the artefacts that stages share.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared, self.config = shared, shared.config
        self._found: dict[tuple[str, str], dict[int, Path]] = {}

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless every search can minimise its objective on the model's process."""
        for name, node in self.config.schedule_optimizer.items():
            objective = self.objective(name, self.config.variance)
            self.shared.build(node["search"]).check(objective, model.process)

    @cached_property
    def all(self) -> list[Path]:
        """The schedule files of every schedule optimizer, with the configuration's own variance."""
        names = self.config.schedule_optimizer
        return [path for name in names for path in self.schedules(name, self.config.variance).values()]

    def depends_on_variance(self, name: str) -> bool:
        """Whether a schedule optimizer is searched anew for every variance kind."""
        return "variance" in (self.config.schedule_optimizer[name].get("objective") or {})

    def objective(self, name: str, variance: str) -> Objective | None:
        """The objective of a schedule optimizer; None for a fixed rule."""
        node = self._objective_node(name, variance)
        objective: Objective | None = None if node is None else self.shared.build(node)
        return objective

    def _objective_node(self, name: str, variance: str) -> dict[str, Any] | None:
        node = self.config.schedule_optimizer[name].get("objective")
        if node is None:
            return None
        return {**node, "variance": variance} if self.depends_on_variance(name) else dict(node)

    def schedules(self, name: str, variance: str) -> dict[int, Path]:
        """K → schedule file of one schedule optimizer, searched with a variance kind where it depends on one."""
        if not self.depends_on_variance(name):
            variance = self.config.variance
        if (name, variance) not in self._found:
            self._found[name, variance] = self._search(name, variance)
        return self._found[name, variance]

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
            self.shared.build(node["search"]),
            statistics,
            weights,
            list(c.steps),
            c.seed,
        )
        self.shared.charge("search", name, folder)
        return {K: schedule_file(folder, name, K) for K in c.steps}
