"""Whether objectives rank schedules as their samples do."""

from typing import NamedTuple

from fewstep.report.ddim.networks import ByRow, Networks
from fewstep.report.estimates import Estimate
from fewstep.report.failure_signatures import OBJECTIVE
from fewstep.report.fine_steps import METRICS
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import NOTHING, number, signed
from fewstep.report.rank_correlation import RankCorrelation, rank_correlation
from fewstep.report.rows import TUNED
from fewstep.report.tables import Cell, Table


class Ranked(NamedTuple):
    """The rank correlation of an objective with a measure of samples over the untuned schedules of one K."""

    process: str
    objective: str
    measure: str
    steps: int
    correlation: RankCorrelation


def ranked(networks: Networks) -> list[Ranked]:
    """Every objective against the Fréchet distance and the distances to the fine-step output, at every K."""
    names = sorted({row.metric for row in networks.rows if row.metric.startswith(OBJECTIVE)})
    panel = networks.panel
    measures = {panel.metric if panel else "": networks.distances} | {
        metric: networks.of(metric) for metric in METRICS
    }
    found = []
    for name in names:
        values = networks.of(name)
        for measure, rows in measures.items():
            for K in networks.steps:
                correlation = rank_correlation(_untuned(values, K), _untuned(rows, K))
                if correlation is not None:
                    objective = name.removeprefix(OBJECTIVE)
                    found.append(Ranked(networks.process, objective, measure, K, correlation))
    return found


def _untuned(rows: ByRow, K: int) -> dict[str, Estimate]:
    return {name: by_K[K] for name, by_K in rows.items() if K in by_K and not name.endswith(TUNED)}


def rank_tables(networks: Networks) -> list[str]:
    """Objectives × K, a table for every measure."""
    found = ranked(networks)
    tables = []
    for measure in dict.fromkeys(one.measure for one in found):
        here = [one for one in found if one.measure == measure]
        cells = {(one.objective, one.steps): one.correlation for one in here}
        rows = [
            [Cell(objective), *(_cell(cells.get((objective, K))) for K in networks.steps)]
            for objective in dict.fromkeys(one.objective for one in here)
        ]
        schedules = max(one.correlation.schedules for one in here)
        caption = (
            f"Spearman’s ρ between objectives (values on held-out images) and **{measure}** over the {schedules} "
            "untuned schedules of one K: +1 where the objective ranks them as the measure does. In brackets the "
            "95 % interval over resampled seeds, where there are seeds, and p, how often a random order of the "
            "schedules gives as large a |ρ|. Bold: p < 0.05."
        )
        head = ["objective", *(f"K = {K}" for K in networks.steps)]
        tables.append(markdown_table(Table(caption, head, rows)))
    return tables or ["No objective’s values were measured on three schedules with samples."]


def _cell(correlation: RankCorrelation | None) -> Cell:
    if correlation is None:
        return Cell(NOTHING)
    interval = (
        f"{signed(correlation.low, 2)} to {signed(correlation.high, 2)}; "
        if correlation.low == correlation.low
        else ""
    )
    detail = f"{interval}p {number(correlation.p_value, 3)}"
    return Cell(signed(correlation.rho, 2), detail=detail, bold=correlation.p_value < 0.05)
