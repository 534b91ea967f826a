"""What tuning on a schedule's timesteps, and alternating with the search, change in the Fréchet distance."""

from fewstep.report.ddim.networks import Networks
from fewstep.report.ddim.quality import difference_cell
from fewstep.report.estimates import Line
from fewstep.report.markdown import markdown_table
from fewstep.report.printing import fid_decimals, listing
from fewstep.report.rows import TUNED, distinct
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
    table = Table(caption, ["schedule optimizer", *(f"K = {K}" for K in networks.steps)], rows)
    return [markdown_table(table), *_kept_untuned(networks)]


def _kept_untuned(networks: Networks) -> list[str]:
    """In how many of the models no validation was better than before, so that they are the untuned one."""
    told = []
    for metric, how in (("best_iteration", "tuned once"), ("kept_round", "alternated")):
        models = [
            (Line(name.removesuffix(TUNED)).untuned.optimizer, K, value)
            for name, by_K in networks.of(metric).items()
            for K, one in by_K.items()
            for value in one.values.values()
        ]
        untuned = distinct(f"{name} at K = {K}" for name, K, value in models if value == 0)
        if models:
            count = sum(value == 0 for *_, value in models)
            which = f" ({listing(untuned)})" if untuned else ""
            told.append(f"of {len(models)} models {how}, {count} are the untuned one{which}")
    if not told:
        return []
    return [
        f"A model is the untuned one, and its difference zero, where no validation was better: {'; '.join(told)}."
    ]
