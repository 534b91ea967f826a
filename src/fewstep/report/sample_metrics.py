"""The page's tables of what else was measured of samples, on the features of a Fréchet distance."""

from collections.abc import Sequence

from fewstep.discovery import named
from fewstep.report.estimates import Panel
from fewstep.report.printing import count
from fewstep.report.rows import distinct, fid_panels
from fewstep.report.tables import Table, fid_table
from fewstep.results import Result

DECIMALS = 4
MEASURES: dict[str, str] = {
    measure: meaning for metric in named("metrics").values() for measure, meaning in metric.measures.items()
}


def sample_metrics(rows: Sequence[Result]) -> list[str]:
    """Every such metric of the results, such as `kid_inception`."""
    return distinct(row.metric for row in rows if row.metric.partition("_")[0] in MEASURES)


def sample_metric_tables(rows: Sequence[Result], metric: str) -> list[Table]:
    """A table per solver."""
    return [_table(panel) for panel in fid_panels(rows, metric) if panel.untuned]


def _table(panel: Panel) -> Table:
    measure, _, network = panel.metric.partition("_")
    caption = (
        f"{panel.metric} with the {panel.solver or 'unstated'} solver"
        + (f", {panel.variance} variance" if panel.variance else "")
        + f". {MEASURES[measure]} On the features of the {network} network: {count(panel.n_images)} samples a run "
        f"against the {panel.split or 'unstated'} split. Large: mean over the seeds; small: each seed ± its "
        "standard error."
    )
    return fid_table(panel, None, DECIMALS)._replace(caption=caption)
