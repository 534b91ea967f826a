"""What tuning on a schedule's timesteps, and alternating with the search, change in the Fréchet distance."""

from fewstep.report.ddim.networks import Networks
from fewstep.report.ddim.quality import difference_cell
from fewstep.report.estimates import Line
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import fid_decimals
from fewstep.report.rows import TUNED
from fewstep.report.tables import Cell, Table


def tuning_table(networks: Networks) -> list[str]:
    """Tuned rows minus the untuned rows of the same schedule optimizer."""
    if networks.panel is None:
        return ["No samples were judged."]
    decimals = fid_decimals([networks.panel])
    rows = []
    for name in networks.distances:
        if name.endswith(TUNED):
            untuned = Line(name.removesuffix(TUNED)).untuned.optimizer
            found = {K: networks.against(name, untuned, K) for K in networks.steps}
            if any(found.values()):
                rows.append([Cell(name), *(difference_cell(one, decimals) for one in found.values())])
    if not rows:
        return ["No tuned row was measured."]
    caption = (
        "Tuned minus the untuned row of the same schedule optimizer, negative where tuning helps: mean ± half the "
        "95 % interval over paired sampling seeds; in brackets each network’s difference; bold as above. "
        "`_roundsN` alternated the search and the tuning up to N times, with the same iterations in all."
    )
    return [markdown_table(Table(caption, ["schedule optimizer", *(f"K = {K}" for K in networks.steps)], rows))]
