"""What schedule optimizers are ranked by: each likelihood, and each Fréchet distance under each solver, by K."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from fewstep.report.differences import Difference
from fewstep.report.estimates import Estimate, Panel
from fewstep.report.league.ranks import Rank, ranks
from fewstep.report.part import Distance, Likelihood, Part
from fewstep.report.printing import BITS_DECIMALS, count, fid_decimals
from fewstep.report.rows import by_optimizer

BASELINE = "even"


@dataclass(frozen=True)
class Contest:
    """One measured quantity, lower being better.

    Attributes:
        name: of the quantity.
        measured: how it was measured, and over what the intervals are.
        decimals: that its values are printed with.
        variance: the variance kind that it is of, where it is of one.
        samples: whether it judges samples, and not a likelihood.
        values: schedule optimizer → K → estimate.
        difference: of two schedule optimizers at a K, the first minus the second; None where nothing is known.
    """

    name: str
    measured: str
    decimals: int
    variance: str | None
    samples: bool
    values: Mapping[str, Mapping[int, Estimate]]
    difference: Callable[[str, str, int], Difference | None]

    @property
    def steps(self) -> list[int]:
        """Every K at which two schedule optimizers meet, ascending."""
        every = [K for by_K in self.values.values() for K in by_K]
        return sorted({K for K in every if every.count(K) > 1})

    @property
    def baseline(self) -> str:
        """What the others are compared with: even stride, or whoever comes first where it did not take part."""
        return BASELINE if BASELINE in self.values else next(iter(self.values))

    @cached_property
    def ranks(self) -> dict[int, dict[str, Rank]]:
        """K → schedule optimizer → its places among those measured at this K."""
        return {
            K: ranks(
                [name for name, by_K in self.values.items() if K in by_K],
                lambda a, b, K=K: self.difference(a, b, K),  # type: ignore[misc]
            )
            for K in self.steps
        }

    def middle(self, name: str) -> float:
        """The mean over K of the middle of a schedule optimizer's places."""
        places = [by_name[name].middle for by_name in self.ranks.values() if name in by_name]
        return sum(places) / len(places) if places else len(self.values) + 1


def contests(part: Part) -> list[Contest]:
    """Every contest in which two schedule optimizers meet: likelihoods first."""
    found = [
        *(_of_likelihood(likelihood) for likelihood in part.likelihoods),
        *(_of_distance(distance) for distance in part.distances),
    ]
    return [contest for contest in found if contest.steps]


def _of_likelihood(likelihood: Likelihood) -> Contest:
    panel = likelihood.panel
    return Contest(
        name=f"bits/dim ({likelihood.label})",
        measured=f"Bits/dim ± standard error over {count(panel.n_images)} {panel.split} images{_trained(panel)}; "
        "intervals over the images, too wide rather than too narrow: a bound is known of a difference's error",
        decimals=BITS_DECIMALS,
        variance=panel.variance,
        samples=False,
        values=by_optimizer(panel.untuned, panel.variance),
        difference=likelihood.difference,
    )


def _of_distance(distance: Distance) -> Contest:
    panel = distance.panel
    seeds = len({seed for _, seed in panel.seeds})
    return Contest(
        name=f"{panel.metric}, {distance.solver}",
        measured=f"Mean {panel.metric} over {seeds} sampling seeds, each of {count(panel.n_images)} samples of "
        f"the {distance.solver} solver against the {panel.split} split{_trained(panel)}; intervals over the "
        "paired seeds",
        decimals=fid_decimals([panel]),
        variance=panel.variance,
        samples=True,
        values=distance.estimates,
        difference=distance.difference,
    )


def _trained(panel: Panel) -> str:
    seeds = len({seed for seed, _ in panel.seeds})
    return f", {seeds} networks" if seeds > 1 else ""
