"""What was measured, over its seeds: estimates, and the panels that hold those of one table or plot."""

import math
import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from fewstep.errors import UserError
from fewstep.results import Result

Seeds = tuple[int | None, int | None]
_ALTERNATED = re.compile(r"(?P<optimizer>.+)_rounds(?P<rounds>\d+)")


class Line(NamedTuple):
    """One row of a table or line of a plot: a schedule optimizer, with its variance where there are several.

    That of a model for which search and training alternated in N rounds ends in `_roundsN`.
    """

    optimizer: str
    variance: str | None = None

    @property
    def label(self) -> str:
        """What a table or plot calls it."""
        name = self.untuned.optimizer if self.rounds == 1 else f"{self.untuned.optimizer}, {self.rounds} rounds"
        return f"{name} ({self.variance})" if self.variance else name

    @property
    def rounds(self) -> int:
        """How often search and training alternated, at most; 1 where its model is tuned once or not at all."""
        found = _ALTERNATED.fullmatch(self.optimizer)
        return int(found["rounds"]) if found else 1

    @property
    def untuned(self) -> "Line":
        """The same before its model was tuned."""
        found = _ALTERNATED.fullmatch(self.optimizer)
        return Line(found["optimizer"], self.variance) if found else self


@dataclass
class Estimate:
    """A number measured once per (training seed, sampling seed): values, standard errors, numbers of images."""

    values: dict[Seeds, float] = field(default_factory=dict)
    errors: dict[Seeds, float | None] = field(default_factory=dict)
    n_images: set[int] = field(default_factory=set)

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.values.values()) / len(self.values)

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean of runs judged on the same images; `None` where a run states none.

        The images' part is common to all runs, so averaging does not shrink it (root mean square); runs with
        several seeds add their spread over √runs.
        """
        errors = [error for error in self.errors.values() if error is not None]
        runs = len(self.values)
        if len(errors) < runs:
            return None
        squares = math.fsum(error**2 for error in errors) / runs
        if runs > 1:
            squares += math.fsum((v - self.mean) ** 2 for v in self.values.values()) / (runs - 1) / runs
        return math.sqrt(squares)

    def without(self, sample_seed: int) -> "Estimate":
        """The same without one sampling seed."""
        kept = [seeds for seeds in self.values if seeds[1] != sample_seed]
        errors = {seeds: self.errors[seeds] for seeds in kept}
        return Estimate({seeds: self.values[seeds] for seeds in kept}, errors, self.n_images)

    def add(self, row: Result) -> None:
        """Take in a row.

        Raises:
            UserError: the same seeds are there already.
        """
        seeds = (row.train_seed, row.sample_seed)
        if seeds in self.values:
            raise UserError(
                f"The results hold two rows of {row.metric} for schedule_optimizer={row.schedule_optimizer}, "
                f"steps={row.steps}, train_seed={row.train_seed}, sample_seed={row.sample_seed}; "
                "allowed is one row per measured number."
            )
        self.values[seeds] = row.value
        self.errors[seeds] = row.standard_error
        if row.n_images is not None:
            self.n_images.add(row.n_images)


Estimates = dict[Line, dict[int, Estimate]]


@dataclass
class Panel:
    """One table or one panel of a plot: a metric under one solver or variance, its estimates by line and K.

    `reference` is the full grid of a likelihood (`reference_steps` its T), the floor of a Fréchet distance.
    """

    metric: str
    solver: str | None = None
    variance: str | None = None
    decoder: str | None = None
    split: str | None = None
    nfe: dict[int, int] = field(default_factory=dict)
    untuned: Estimates = field(default_factory=dict)
    tuned: Estimates = field(default_factory=dict)
    reference: Estimate | None = None
    reference_steps: int | None = None

    @property
    def steps(self) -> list[int]:
        """Every K measured, ascending."""
        return sorted({k for lines in (self.untuned, self.tuned) for by_k in lines.values() for k in by_k})

    @property
    def n_images(self) -> list[int]:
        """The numbers of images behind the estimates, ascending, without the reference's."""
        lines = (*self.untuned.values(), *self.tuned.values())
        return sorted({n for by_k in lines for estimate in by_k.values() for n in estimate.n_images})

    @property
    def seeds(self) -> list[Seeds]:
        """Every (training seed, sampling seed) measured."""
        lines = (*self.untuned.values(), *self.tuned.values())
        return sorted(
            {seeds for by_k in lines for estimate in by_k.values() for seeds in estimate.values},
            key=lambda seeds: tuple(-1 if seed is None else seed for seed in seeds),
        )


def finite(panel: Panel) -> Panel:
    """The panel without what cannot be drawn: infinite values."""
    untuned, tuned = (
        {
            line: drawn
            for line, by_k in lines.items()
            if (drawn := {k: e for k, e in by_k.items() if math.isfinite(e.mean)})
        }
        for lines in (panel.untuned, panel.tuned)
    )
    reference = panel.reference if panel.reference and math.isfinite(panel.reference.mean) else None
    return replace(panel, untuned=untuned, tuned=tuned, reference=reference)


class Change(NamedTuple):
    """A schedule's estimate before and after the model was fine-tuned on its timesteps."""

    line: Line
    steps: int
    before: Estimate | None
    after: Estimate

    @property
    def differences(self) -> dict[Seeds, float]:
        """After minus before, for every seed that has both."""
        before = self.before.values if self.before else {}
        return {seeds: value - before[seeds] for seeds, value in self.after.values.items() if seeds in before}

    @property
    def mean_difference(self) -> float:
        """Mean of the differences; there must be one."""
        return math.fsum(self.differences.values()) / len(self.differences)

    @property
    def combined_error(self) -> float | None:
        """Standard error of after − before as if the two were independent: too large for paired runs."""
        return combined_error(self.before, self.after) if self.before else None


def combined_error(a: Estimate, b: Estimate) -> float | None:
    """√(se_a² + se_b²): the standard error of a − b were they independent; `None` where one is unknown."""
    if a.standard_error is None or b.standard_error is None:
        return None
    return math.hypot(a.standard_error, b.standard_error)
