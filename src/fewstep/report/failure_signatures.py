"""Signs that a method failed, each with its evidence: over-fitting, local minima, objectives against quality."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fewstep.report.estimates import Estimate, Panel
from fewstep.report.overfitting import TunedRows, overfitted_places, overfitting_clause
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM
from fewstep.report.printing import count, listing, number, signed, span
from fewstep.report.rank_correlation import RankCorrelation, rank_correlation
from fewstep.report.rows import by_optimizer, distinct, fid_metrics, fid_panels
from fewstep.results import Result
from fewstep.search.optimality_gap import is_local_minimum

OBJECTIVE = "objective_"
GAP = "optimality_gap"
SCHEDULES = 5  # fewer are ordered in any way too often by chance


class Signature(NamedTuple):
    """A sign of failure: its name, in how many of what it was looked for, a sentence wherever it shows."""

    name: str
    looked_for: str
    shown: list[str]


def failure_signatures(rows: Sequence[Result]) -> list[str]:
    """A sentence for every failure that shows, and one for all that do not; none where nothing was measured."""
    found = [signature for sign in SIGNATURES if (signature := sign(rows)) is not None]
    absent = [f"{signature.name} ({signature.looked_for})" for signature in found if not signature.shown]
    sentences = [sentence for signature in found for sentence in signature.shown]
    if absent:
        sentences.append(f"Looked for and not seen: {listing(absent)}.")
    return sentences


def overfitting(rows: Sequence[Result]) -> Signature | None:
    """Tuned models whose validation error rose while the training error went on falling."""
    keys = dict.fromkeys((r.schedule_optimizer, r.steps) for r in rows if r.metric == "best_iteration")
    tuned = {
        (name, K): of for name, K in keys if name and K and overfitting_clause(of := TunedRows(rows, name, K))
    }
    if not tuned:
        return None
    shown = [
        f"Over-fitting to the chosen timesteps: of the model tuned on the {K} timesteps of {name}, "
        f"{overfitting_clause(of)}."
        for (name, K), of in tuned.items()
        if overfitted_places(of)
    ]
    return Signature("over-fitting to the chosen timesteps", _counted(len(tuned), "tuned model"), shown)


def local_minima(rows: Sequence[Result]) -> Signature | None:
    """Gradient searches whose schedule scores above the optimum of the same objective on the grid."""
    gaps = [row for row in rows if row.metric == GAP]
    if not gaps:
        return None
    shown = []
    for row in gaps:
        error = row.standard_error or 0.0
        if is_local_minimum(row.value, error):
            networks = len({gap.train_seed for gap in gaps})
            of = f", training seed {row.train_seed}" if networks > 1 else ""
            on = f" on the same {count([row.n_images])} images and noises" if row.n_images else ""
            shown.append(
                f"A local minimum: the schedule of {row.schedule_optimizer} at K = {row.steps}{of} scores "
                f"{number(100 * row.value, 1)} ± {number(100 * error, 1)} % above the best schedule on the grid "
                f"by its own objective{on}."
            )
    return Signature("a local minimum", _counted(len(gaps), "gradient search", "gradient searches"), shown)


def disagreement(rows: Sequence[Result]) -> Signature | None:
    """Objectives that order the schedules of one K against a distance, whichever paired seeds are drawn."""
    found = {
        key: correlation
        for key, correlation in rank_correlations(rows).items()
        if correlation.seeds >= PAIRED_SEEDS_FOR_A_CLAIM and correlation.schedules >= SCHEDULES
    }
    if not found:
        return None
    against: dict[tuple[str, str], dict[int, RankCorrelation]] = {}
    for (objective, distance, K), correlation in found.items():
        if correlation.disagrees:
            against.setdefault((objective, distance), {})[K] = correlation
    shown = [
        f"An objective that disagrees with quality: {objective} and {distance} order the schedules oppositely, "
        f"{told(where)}."
        for (objective, distance), where in against.items()
    ]
    least = min(correlation.rho for correlation in found.values())
    looked_for = f"{_counted(len(found), 'rank correlation')} with a distance, the lowest {signed(least, 2)}"
    return Signature("an objective that orders the schedules against quality", looked_for, shown)


SIGNATURES: tuple[Callable[[Sequence[Result]], Signature | None], ...] = (overfitting, local_minima, disagreement)


def rank_correlations(rows: Sequence[Result]) -> dict[tuple[str, str, int], RankCorrelation]:
    """(objective, distance with its solver, K) → Spearman's rho over the untuned schedules, where there is one."""
    untuned = [row for row in rows if not row.finetuned]
    metrics = distinct(row.metric for row in untuned if row.metric.startswith(OBJECTIVE))
    panels = [panel for metric in fid_metrics(rows) for panel in fid_panels(rows, metric)]
    found = {}
    for metric in metrics:
        values = objective_values(untuned, metric)
        for panel in panels:
            distances = by_optimizer(panel.untuned, panel.variance)
            for K in panel.steps:
                here = {name: by_K[K] for name, by_K in distances.items() if K in by_K}
                correlation = rank_correlation(values.get(K, {}), here)
                if correlation is not None:
                    found[metric.removeprefix(OBJECTIVE), _distance(panel), K] = correlation
    return found


def objective_values(rows: Sequence[Result], metric: str) -> dict[int, dict[str, Estimate]]:
    """K → schedule optimizer → value of an objective; of several decoders or variances the first."""
    values: dict[int, dict[str, Estimate]] = {}
    chosen = [row for row in rows if row.metric == metric]
    for row in chosen:
        first = (row.variance, row.decoder) == (chosen[0].variance, chosen[0].decoder)
        if first and row.steps is not None and row.schedule_optimizer is not None:
            values.setdefault(row.steps, {}).setdefault(row.schedule_optimizer, Estimate()).add(row)
    return values


def told(by_K: Mapping[int, RankCorrelation]) -> str:
    """Spearman's rho at every K with its interval over seeds, and how often chance orders so few schedules so."""
    at = [
        f"{signed(one.rho, 2)} ({signed(one.low, 2)} to {signed(one.high, 2)}) at K = {K}"
        for K, one in by_K.items()
    ]
    schedules, seeds = (span([one[i] for one in by_K.values()], 0) for i in (4, 5))
    return (
        f"Spearman’s rho {listing(at)}, 95 % over {seeds} paired seeds; a random order of the {schedules} "
        f"schedules is as extreme with probability {span([one.p_value for one in by_K.values()], 3)}"
    )


def _distance(panel: Panel) -> str:
    variance = f", {panel.variance} variance" if panel.variance else ""
    return f"{panel.metric} ({panel.solver or 'unstated solver'}{variance})"


def _counted(number_of: int, one: str, several: str = "") -> str:
    return f"{number_of} {one if number_of == 1 else several or f'{one}s'}"
