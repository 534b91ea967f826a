"""What one part of a study measured: its rows, and the views of them that pages share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fewstep.report.differences import Difference, bits_difference, seeds_difference
from fewstep.report.estimates import Estimate, Line, Panel
from fewstep.report.rows import by_optimizer, fid_metrics, fid_panels, likelihood_panels, of_metric
from fewstep.results import Result

LOSSES = ("simple", "hybrid", "vlb")
USUAL_DECODER = "additive"
ABOVE_FULL = "bits_per_dim_above_full"


@dataclass(frozen=True)
class Likelihood:
    """Bits/dim of one network under one variance kind (and one decoder's convention).

    Attributes:
        panel: the estimates.
        above_full: (schedule optimizer, K) → bits/dim above the full grid's, paired over images, where measured.
    """

    panel: Panel
    above_full: Mapping[tuple[str, int], Estimate]

    @property
    def variance(self) -> str:
        """The variance kind."""
        return self.panel.variance or "unstated"

    @property
    def label(self) -> str:
        """The variance kind, with the decoder's convention where it is not the usual one."""
        decoder = self.panel.decoder
        return self.variance if decoder in (None, USUAL_DECODER) else f"{self.variance}, {decoder} decoder"

    def at(self, optimizer: str, steps: int) -> Estimate | None:
        """Bits/dim of a schedule."""
        return self.panel.untuned.get(Line(optimizer), {}).get(steps)

    @property
    def steps(self) -> list[int]:
        """The K's at which schedules differ: all measured ones but that of the full grid."""
        return [K for K in self.panel.steps if self.panel.reference_steps != K]

    def above(self, optimizer: str, steps: int) -> Difference | None:
        """Bits/dim of a schedule above the full grid's."""
        mine, paired = self.at(optimizer, steps), self.above_full.get((optimizer, steps))
        if mine is None or self.panel.reference is None:
            return None
        return bits_difference(mine, self.panel.reference, [paired])

    def difference(self, a: str, b: str, steps: int) -> Difference | None:
        """Bits/dim of schedule optimizer a minus those of b."""
        first, second = self.at(a, steps), self.at(b, steps)
        if first is None or second is None:
            return None
        above = [self.above_full.get((a, steps)), self.above_full.get((b, steps))]
        return bits_difference(first, second, above)


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance of one network under one solver."""

    panel: Panel

    @property
    def solver(self) -> str:
        """The solver, with its variance kind where it has one."""
        panel = self.panel
        return (panel.solver or "unstated solver") + (f" ({panel.variance})" if panel.variance else "")

    @property
    def estimates(self) -> dict[str, dict[int, Estimate]]:
        """Schedule optimizer → K → estimate."""
        return by_optimizer(self.panel.untuned, self.panel.variance)

    def difference(self, a: str, b: str, steps: int) -> Difference | None:
        """The distance of schedule optimizer a minus that of b, paired by seeds."""
        first, second = (self.estimates.get(name, {}).get(steps) for name in (a, b))
        if first is None or second is None or not first.values.keys() & second.values.keys():
            return None
        return seeds_difference(first, second)


@dataclass(frozen=True)
class Part:
    """What one part measured."""

    name: str
    rows: Sequence[Result]

    @property
    def loss(self) -> str | None:
        """The training loss, as the name says it."""
        return next((loss for loss in LOSSES if self.name.endswith(f"_{loss}")), None)

    @property
    def process(self) -> str:
        """The process, as the rows say it."""
        return next((row.process for row in self.rows if row.process), "unstated")

    @cached_property
    def likelihoods(self) -> list[Likelihood]:
        """One per variance kind and decoder."""
        panels = [panel for panel in likelihood_panels(self.rows) if panel.untuned or panel.reference]
        return [Likelihood(panel, self._above_full(panel)) for panel in panels]

    def likelihood(self, variance: str) -> Likelihood | None:
        """The first of a variance kind."""
        return next((one for one in self.likelihoods if one.variance == variance), None)

    @property
    def preferred(self) -> Likelihood | None:
        """The likelihood under `optimal` variance, or else the first."""
        return self.likelihood("optimal") or next(iter(self.likelihoods), None)

    @cached_property
    def distances(self) -> list[Distance]:
        """One per Fréchet distance and solver."""
        panels = [panel for metric in fid_metrics(self.rows) for panel in fid_panels(self.rows, metric)]
        return [Distance(panel) for panel in panels if panel.untuned]

    def metric(self, name: str) -> Estimate | None:
        """A number in which no schedule has a part."""
        return of_metric([row for row in self.rows if row.schedule_optimizer is None], name)

    def _above_full(self, panel: Panel) -> dict[tuple[str, int], Estimate]:
        found: dict[tuple[str, int], Estimate] = {}
        for row in self.rows:
            kind = (ABOVE_FULL, panel.variance, panel.decoder)
            if (row.metric, row.variance, row.decoder) == kind and not row.finetuned:
                found.setdefault((row.schedule_optimizer or "", row.steps or 0), Estimate()).add(row)
        return found
