"""What was measured, process by process: the rows of all its networks, and the views that the page takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fewstep.report.estimates import Estimate, Panel
from fewstep.report.paired import PairedDifference, paired_difference
from fewstep.report.rows import TUNED, by_name, by_optimizer, distinct, fid_metrics, fid_panels, read_rows
from fewstep.results import Result, read_results

PROCESSES = ("linear", "cosine", "edm")
BASELINES = ("even", "tangent", "karras")
ByRow = dict[str, dict[int, Estimate]]  # name of a row → K → estimate


@dataclass(frozen=True)
class Networks:
    """The networks of one process, one per training seed.

    Attributes:
        process: its name.
        rows: everything measured, each number once.
    """

    process: str
    rows: Sequence[Result]

    @cached_property
    def panel(self) -> Panel | None:
        """The Fréchet distances, of DDIM where several solvers were run; None without any."""
        panels = [panel for metric in fid_metrics(self.rows) for panel in fid_panels(self.rows, metric)]
        drawn = [panel for panel in panels if panel.untuned]
        return next((panel for panel in drawn if panel.solver == "ddim"), next(iter(drawn), None))

    @cached_property
    def distances(self) -> ByRow:
        """Fréchet distances of every row: untuned ones by their optimizers’ names, tuned ones with `(tuned)`."""
        if self.panel is None:
            return {}
        untuned = by_optimizer(self.panel.untuned, None)
        tuned = by_optimizer(self.panel.tuned, None)
        return untuned | {f"{name}{TUNED}": by_K for name, by_K in tuned.items()}

    def of(self, metric: str) -> ByRow:
        """Another metric of every row that has a K, named likewise."""
        solver = self.panel.solver if self.panel else None
        return by_name([row for row in self.rows if row.metric == metric and row.solver in (None, solver)])

    def single(self, metric: str) -> Estimate | None:
        """A number in which no schedule has a part, over its networks."""
        estimate = Estimate()
        for row in self.rows:
            if row.metric == metric and row.schedule_optimizer is None:
                estimate.add(row)
        return estimate if estimate.values else None

    @property
    def steps(self) -> list[int]:
        """Every K that was sampled."""
        return sorted({K for by_K in self.distances.values() for K in by_K})

    @property
    def seeds(self) -> list[int]:
        """The training seeds."""
        return sorted({row.train_seed for row in self.rows if row.train_seed is not None})

    def against(self, name: str, baseline: str, steps: int) -> "Against | None":
        """A row’s Fréchet distance minus a baseline’s; None where the two share no seeds."""
        row, other = (self.distances.get(one, {}).get(steps) for one in (name, baseline))
        if row is None or other is None or not row.values.keys() & other.values.keys():
            return None
        by_seed = {}
        for seed in self.seeds:
            mine, theirs = _of_network(row, seed), _of_network(other, seed)
            if mine.values.keys() & theirs.values.keys():
                by_seed[seed] = paired_difference(mine, theirs)
        return Against(self.process, name, baseline, steps, paired_difference(row, other), by_seed)


@dataclass(frozen=True)
class Against:
    """One row minus a baseline, at one process and K: over all seeds, and by training seed."""

    process: str
    name: str
    baseline: str
    steps: int
    difference: PairedDifference
    by_seed: Mapping[int, PairedDifference]

    @property
    def says(self) -> str:
        """`better` or `worse` where the interval excludes zero and every network has the same sign; `unclear`."""
        if not self.difference.is_claim:
            return "unclear"
        signs = {one.mean < 0 for one in self.by_seed.values()} | {self.difference.mean < 0}
        return "unclear" if len(signs) > 1 else "better" if self.difference.mean < 0 else "worse"


def read_networks(reports: Mapping[str, Path]) -> list[Networks]:
    """The networks in the folders of parts’ reports, by process.

    Raises:
        UserError: a part’s results are missing, damaged, empty, or of several datasets or processes.
    """
    parts = [read_rows(read_results(Path(path) / "results.csv")) for path in reports.values()]
    return group([row for part in parts for row in part])


def group(rows: Sequence[Result]) -> list[Networks]:
    """Rows by process; what belongs to none (the floor, the judge) belongs to each. Equal rows are one."""
    names = distinct((row.process for row in rows), PROCESSES)
    return [
        Networks(name, list(dict.fromkeys(row for row in rows if row.process in (name, None)))) for name in names
    ]


def _of_network(estimate: Estimate, seed: int) -> Estimate:
    """The values of one training seed."""
    return Estimate(
        values={seeds: value for seeds, value in estimate.values.items() if seeds[0] == seed},
        errors={seeds: error for seeds, error in estimate.errors.items() if seeds[0] == seed},
        n_images=estimate.n_images,
    )
