"""Stage search in a run: every schedule optimizer's schedules, under every variance kind that they depend on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.artefacts.search_statistics import check_images_setting
from fewstep.artefacts.statistics import own_settings, split_of
from fewstep.decoders import DECODERS, no_table
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective
from fewstep.objectives.elbo import ElboObjective
from fewstep.search.base import Search
from fewstep.shared import Shared
from fewstep.stages.search import schedule_file, search
from fewstep.statistics.covariance import KIND as COVARIANCE
from fewstep.statistics.covariance import check_dimensions

log = logging.getLogger(__name__)


class Searches:
    """The schedules of one configuration.

    Args:
        shared: the artefacts that stages share.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared, self.config = shared, shared.config
        self._found: dict[tuple[str, str], dict[int, Path]] = {}
        self._behind: dict[Path, list[Path]] = {}

    def check(self, model: Denoiser) -> None:
        """Raise a UserError unless every search can minimise its objective on the model's process and splits."""
        for name, node in self.config.schedule_optimizer.items():
            objective, find = self.objective(name, self.config.variance), self.shared.build(node["search"])
            if isinstance(objective, ElboObjective) and not DECODERS[objective.decoder].tabular:
                raise no_table()
            find.check(objective, model.process)
            self._check_seeds(name, objective)
            for kind in find.needs:
                self._check_split(name, kind)
            for kind in dict.fromkeys([*find.needs, *(objective.needs if objective else ())]):
                check_images_setting(kind, self.shared.statistics, self.shared.purpose)
                self._check_teacher(name, kind)
                if kind == COVARIANCE:
                    check_dimensions(self.shared.dataset.shape)

    def _check_seeds(self, name: str, objective: Objective | None) -> None:
        """Raise a UserError where samples behind a search would judge as well."""
        searched = () if objective is None else objective.sample_seeds
        both = sorted({*searched} & {*self.shared.evaluation.sample_seeds})
        if both:
            raise UserError(
                f"{name} selects its schedules by the samples of seed {both[0]}, which cannot judge them too; "
                "leave it out of evaluation.sample_seeds, or of the objective's sample_seeds."
            )

    def _check_teacher(self, name: str, kind: str) -> None:
        """Raise a UserError where a kind is of a teacher that takes fewer steps than a schedule should."""
        most, teacher = max(self.config.steps, default=0), own_settings(kind, self.shared.statistics)
        if teacher and most > teacher["steps"]:
            raise UserError(
                f"{name} needs a teacher of at least {most} steps, the most that steps holds; "
                f"statistics.teacher.steps is {teacher['steps']}."
            )

    def _check_split(self, name: str, kind: str) -> None:
        """Raise a UserError where a search selects on a split of its own that searches or judges as well."""
        searched, judged = self.shared.statistics.split, self.shared.evaluation.split
        own = split_of(kind, "")
        if own in (searched, judged):
            setting = "statistics.split" if own == searched else "evaluation.split"
            raise UserError(
                f"{name} selects its schedules on the split {own!r}, so that {setting} cannot be {own!r} too; set "
                "it to another."
            )

    @cached_property
    def all(self) -> list[Path]:
        """The schedule files of every schedule optimizer, with the configuration's own variance."""
        names = self.config.schedule_optimizer
        return [path for name in names for path in self.schedules(name, self.config.variance).values()]

    @property
    def behind(self) -> dict[str, list[Path]]:
        """Schedule optimizer → the runs that its schedules in `all` took."""
        return {
            name: self.runs_behind(path)
            for name in self.config.schedule_optimizer
            for path in self.schedules(name, self.config.variance).values()
        }

    def runs_behind(self, schedule: Path) -> list[Path]:
        """The runs that a schedule file took: the statistics that its search read, and the search."""
        return self._behind[schedule.parents[1]]

    @property
    def results(self) -> list[Path]:
        """What the searches behind `all` measured of themselves, where they measured anything."""
        files = dict.fromkeys(path.parents[1] / "results.csv" for path in self.all)
        return [path for path in files if path.is_file()]

    def depends_on_variance(self, name: str) -> bool:
        """Whether a schedule optimizer is searched anew for every variance kind."""
        return "variance" in (self.config.schedule_optimizer[name].get("objective") or {})

    def objective(self, name: str, variance: str) -> Objective | None:
        """The objective of a schedule optimizer; None for a fixed rule."""
        node = self.objective_settings(name, variance)
        objective: Objective | None = None if node is None else self.shared.build(node)
        return objective

    def objective_settings(self, name: str, variance: str) -> dict[str, Any] | None:
        """What the objective of a schedule optimizer is built from; None for a fixed rule."""
        node = self.config.schedule_optimizer[name].get("objective")
        if node is None:
            return None
        return {**node, "variance": variance} if self.depends_on_variance(name) else dict(node)

    def schedules(self, name: str, variance: str) -> dict[int, Path]:
        """K → schedule file of one schedule optimizer, searched with a variance kind where it depends on one."""
        if not self.depends_on_variance(name):
            variance = self.config.variance
        if (name, variance) not in self._found:
            label = f"{name}-{variance}" if self.depends_on_variance(name) else name
            steps = list(self.config.steps)
            folder = self._search(name, variance, self.shared.weights, steps, label, None)
            self.shared.charge("search", name, folder)
            self._found[name, variance] = {K: schedule_file(folder, name, K) for K in steps}
        return self._found[name, variance]

    def tuned_schedule(self, name: str, weights: Path, K: int, label: str, charged_to: str) -> Path:
        """The schedule file of K steps for tuned weights, with the run's variance; `label` names the folder."""
        folder = self._search(name, self.config.variance, weights, [K], label, charged_to)
        self.shared.charge("search", charged_to, folder)
        return schedule_file(folder, name, K)

    def _search(
        self, name: str, variance: str, weights: Path, steps: list[int], label: str, charged_to: str | None
    ) -> Path:
        """The folder of a search for some weights, whose statistics are charged to one row, or to all."""
        c, node = self.config, dict(self.config.schedule_optimizer[name])
        objective, find = self.objective(name, variance), self.shared.build(node["search"])
        provenance: dict[str, Any] = {"schedule_optimizer": name, "search": node["search"]}
        config: dict[str, Any] = {"schedule_optimizer": node, "steps": steps, "weights": weights.name}
        statistics: dict[str, tuple[Path, Callable[[Path], Any]]] = {}
        if objective is not None:
            node["objective"] = self.objective_settings(name, variance)
            provenance |= {"objective": node["objective"], "split": self.shared.statistics.split}
            if objective.solver is not None:
                provenance["solver"] = objective.solver
            config["statistics"] = c.statistics
            kinds = dict.fromkeys([*objective.needs, *find.needs])
            statistics = {kind: self.shared.search_statistics(kind, weights, charged_to) for kind in kinds}
            config |= self.shared.chosen
        labels = self.shared.labels(name)
        if self.depends_on_variance(name):
            labels["variance"] = variance
        folder = self.shared.folder("search", label, config)
        log.info("search      %s", folder)
        self.search(folder, config, name, provenance, objective, find, statistics, weights, steps, labels)
        self._behind[folder] = [*(path.parent for path, _ in statistics.values()), folder]
        return folder

    def search(
        self,
        folder: Path,
        config: Mapping[str, Any],
        name: str,
        provenance: Mapping[str, Any],
        objective: Objective | None,
        find: Search,
        statistics: Mapping[str, tuple[Path, Callable[[Path], Any]]],
        weights: Path,
        steps: Sequence[int],
        labels: Mapping[str, Any],
    ) -> None:
        """Find schedules and write them into a folder."""
        seed = self.config.seed
        search(folder, config, name, provenance, objective, find, statistics, weights, steps, seed, labels)
