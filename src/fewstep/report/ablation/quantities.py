"""What an ablation compares: test bits/dim and Fréchet distances, by setting, schedule optimizer and K."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.report.ablation.settings import Setting
from fewstep.report.differences import seeds_error
from fewstep.report.estimates import Estimate
from fewstep.report.failure_signatures import OBJECTIVE, objective_values
from fewstep.report.part import Likelihood
from fewstep.report.printing import BITS_DECIMALS, count, fid_decimals, number
from fewstep.report.rows import by_optimizer, distinct

DECIMALS = 3
Key = tuple[str, int]  # schedule optimizer, K


@dataclass(frozen=True)
class Quantity:
    """One number of every schedule, lower being better.

    Attributes:
        name: with its unit, as an axis is labelled.
        decimals: that it is printed with.
        over_seeds: whether its error is that over paired sampling seeds; over images otherwise.
        caption: how it was measured.
        values: by the setting's value, then schedule optimizer and K; of untuned models.
    """

    name: str
    decimals: int
    over_seeds: bool
    caption: str
    values: dict[str, dict[Key, Estimate]]

    @property
    def steps(self) -> list[int]:
        """Every K, ascending."""
        return sorted({K for by_key in self.values.values() for _, K in by_key})

    @property
    def optimizers(self) -> list[str]:
        """Every schedule optimizer, in the results' order."""
        return list(dict.fromkeys(name for by_key in self.values.values() for name, _ in by_key))

    def error(self, estimate: Estimate) -> float | None:
        """The standard error of one of its values."""
        return seeds_error(estimate) if self.over_seeds else estimate.standard_error

    def printed(self, estimate: Estimate) -> str:
        """`2.31 ± 0.02`."""
        error = self.error(estimate)
        plus_minus = "" if error is None else f" ± {number(error, self.decimals)}"
        return f"{number(estimate.mean, self.decimals)}{plus_minus}"

    def is_constant(self, optimizer: str) -> bool:
        """Whether a schedule optimizer has the same values at every setting, so that one row shows them all."""
        rows = [
            {K: estimate.values for (name, K), estimate in by_key.items() if name == optimizer}
            for by_key in self.values.values()
        ]
        return len(rows) > 1 and all(row == rows[0] for row in rows)


def quantities(settings: Sequence[Setting]) -> list[Quantity]:
    """Every Fréchet distance and every kind of bits/dim that a setting has."""
    return [*distances(settings), *likelihoods(settings)]


def distances(settings: Sequence[Setting]) -> list[Quantity]:
    """One per Fréchet distance and solver."""
    found: dict[str, Quantity] = {}
    for setting in settings:
        for distance in setting.part.distances:
            panel = distance.panel
            name = f"{panel.metric}, {distance.solver}"
            seeds = len({seed for _, seed in panel.seeds})
            caption = (
                f"{panel.metric} with the {distance.solver} solver against the {panel.split or 'unstated'} split, "
                f"{count(panel.n_images)} samples × {seeds} paired seeds, mean ± standard error over the seeds"
            )
            quantity = found.setdefault(name, Quantity(name, fid_decimals([panel]), True, caption, {}))
            quantity.values[setting.value] = {
                (optimizer, K): estimate
                for optimizer, by_K in distance.estimates.items()
                for K, estimate in by_K.items()
            }
    return list(found.values())


def likelihoods(settings: Sequence[Setting]) -> list[Quantity]:
    """One per variance kind and decoder."""
    found: dict[str, Quantity] = {}
    for setting in settings:
        for likelihood in setting.part.likelihoods:
            name = likelihood_name(likelihood)
            panel = likelihood.panel
            caption = (
                f"Bits/dim under {likelihood.label} variance on {count(panel.n_images)} "
                f"{panel.split or 'held-out'} images, ± standard error over the images"
            )
            quantity = found.setdefault(name, Quantity(name, BITS_DECIMALS, False, caption, {}))
            quantity.values[setting.value] = {
                (optimizer, K): estimate
                for optimizer, by_K in by_optimizer(panel.untuned, panel.variance).items()
                for K, estimate in by_K.items()
            }
    return list(found.values())


def likelihood_name(likelihood: Likelihood) -> str:
    """What a kind of bits/dim is called."""
    return f"bits/dim, {likelihood.label} variance"


def objectives(settings: Sequence[Setting]) -> list[Quantity]:
    """What the searches lower, on held-out images: one per objective, of untuned models."""
    found: dict[str, Quantity] = {}
    for setting in settings:
        untuned = [row for row in setting.part.rows if not row.finetuned]
        for metric in distinct(row.metric for row in untuned if row.metric.startswith(OBJECTIVE)):
            name = f"{metric.removeprefix(OBJECTIVE)}, the objective’s value"
            caption = f"{name} on held-out images, in its own unit, ± standard error over the images"
            quantity = found.setdefault(name, Quantity(name, DECIMALS, False, caption, {}))
            quantity.values[setting.value] = {
                (optimizer, K): estimate
                for K, by_name in objective_values(untuned, metric).items()
                for optimizer, estimate in by_name.items()
            }
    return list(found.values())
