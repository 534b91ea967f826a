"""The one loss that search and training lower in turn, after each phase: whether it rose, which round is best."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from fewstep.results import Result

SEARCH, FINETUNE = "search", "finetune"
AFTER, CHANGE = "loss_after_", "loss_change_"  # metrics begin so; a phase's label follows


class Phase(NamedTuple):
    """The loss after a phase of a round.

    Attributes:
        round: its number, from 1.
        name: `search`, after which the schedule is new, or `finetune`, after which the weights are.
        values: float64 [images] of the validation split, always the same images and noises.
    """

    round: int
    name: str
    values: Tensor

    @property
    def label(self) -> str:
        """Its word in a metric."""
        return f"round{self.round:02d}_{self.name}"

    @property
    def loss(self) -> float:
        """The mean over images."""
        return self.values.mean().item()


class Change(NamedTuple):
    """What a phase changed, the mean of a difference paired over images, and its standard error."""

    phase: Phase
    value: float
    standard_error: float

    @property
    def rose(self) -> bool:
        """Whether the loss rose by more than the standard error."""
        return self.value > self.standard_error


def changes(phases: Sequence[Phase]) -> list[Change]:
    """Every phase against the one before it; the first has none."""
    return [Change(after, *_estimate(after.values - before.values)) for before, after in pairwise(phases)]


def best_round(phases: Sequence[Phase]) -> int:
    """The round of least loss after training; 0 where that is the untuned model on its own schedule.

    Of equals the earliest.
    """
    after_training = {phase.round: phase.loss for phase in phases if phase.name == FINETUNE}
    after_training[0] = phases[0].loss
    return min(sorted(after_training), key=after_training.__getitem__)


def phase_rows(labels: Mapping[str, Any], phases: Sequence[Phase]) -> list[Result]:
    """`loss_after_roundNN_…` after every phase, `loss_change_roundNN_…` against the phase before, and counts.

    `rounds_made` may be fewer than were asked for; `kept_round` is the best one.
    """
    of = dict(labels) | {"n_images": len(phases[0].values), "split": "validation"}
    rows = []
    for phase in phases:
        value, error = _estimate(phase.values)
        tuned = phase.round > 1 or phase.name == FINETUNE
        metric = f"{AFTER}{phase.label}"
        rows.append(Result(**of, metric=metric, value=value, standard_error=error, finetuned=tuned))
    for phase, value, error in changes(phases):
        metric = f"{CHANGE}{phase.label}"
        rows.append(Result(**of, metric=metric, value=value, standard_error=error, finetuned=True))
    counts = {"rounds_made": phases[-1].round, "kept_round": best_round(phases)}
    return rows + [Result(**labels, metric=name, value=n, finetuned=True) for name, n in counts.items()]


def _estimate(values: Tensor) -> tuple[float, float]:
    """Mean and standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()
