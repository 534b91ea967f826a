"""The page's tables: bits/dim, Fréchet distances, cost."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fewstep.report.estimates import Estimate, Panel
from fewstep.report.printing import (
    BITS_DECIMALS,
    NOTHING,
    count,
    number,
    percent,
    span,
    with_error,
)
from fewstep.report.rows import distinct, optimizers
from fewstep.results import Result

STAGES = ("pretrain", "features", "statistics", "search", "finetune", "evaluate")


class Cell(NamedTuple):
    """One cell: its text, its standard error, a smaller second line, and how it is set."""

    text: str
    error: str = ""
    detail: str = ""
    bold: bool = False
    rowspan: int = 1
    colspan: int = 1


class Table(NamedTuple):
    """A table of the page; the first `headings` cells of every row say what the row is of."""

    caption: str
    header: list[str]
    rows: list[list[Cell]]
    headings: int = 1


def likelihood_table(panel: Panel) -> Table:
    """Bits/dim of one variance kind: schedule optimizers × K, the full grid beside, the lowest of each K bold."""
    steps = _steps(panel)
    lines = panel.untuned.values()
    lowest = {k: min(by_k[k].mean for by_k in lines if k in by_k) for k in steps}
    best = {k: number(mean, BITS_DECIMALS) for k, mean in lowest.items()}
    rows = [
        [Cell(line.label), *(_bits(by_k[k], best[k]) if k in by_k else Cell(NOTHING) for k in steps)]
        for line, by_k in panel.untuned.items()
    ]
    header = ["schedule optimizer", *(f"K = {k}" for k in steps)]
    if panel.reference:
        rows = rows or [[Cell("")]]
        header.append("full grid" + (f", {panel.reference_steps} steps" if panel.reference_steps else ""))
        rows[0].append(_bits(panel.reference)._replace(rowspan=len(rows)))
    images = panel.n_images or sorted(panel.reference.n_images if panel.reference else [])
    caption = (
        f"{(panel.variance or 'unstated').capitalize()} variance. Bits/dim ± standard error over "
        f"{count(images)} {panel.split or 'held-out'} images"
        + (f", {panel.decoder} decoder" if panel.decoder else "")
        + (f", mean of {len(panel.seeds)} training seeds" if len(panel.seeds) > 1 else "")
        + ". Lower is better; bold: the lowest of each K."
    )
    return Table(caption, header, rows)


def _steps(panel: Panel) -> list[int]:
    return sorted({k for by_k in panel.untuned.values() for k in by_k})


def _bits(estimate: Estimate, best: str | None = None) -> Cell:
    text, error = number(estimate.mean, BITS_DECIMALS), estimate.standard_error
    return Cell(text, "" if error is None else number(error, BITS_DECIMALS), bold=text == best)


def fid_table(
    panel: Panel, accuracy: Estimate | None, decimals: int, reference_images: Estimate | None = None
) -> Table:
    """A Fréchet distance under one solver: schedule optimizers × K, mean and every seed, and the floor."""
    steps = _steps(panel)
    rows = [
        [Cell(line.label), *(fid_cell(by_k[k], decimals) if k in by_k else Cell(NOTHING) for k in steps)]
        for line, by_k in panel.untuned.items()
    ]
    if panel.reference and steps:
        name = Cell("floor: real images", detail=f"n = {count(sorted(panel.reference.n_images))}")
        rows.append([name, fid_cell(panel.reference, decimals)._replace(colspan=len(steps))])
    heads = [f"K = {k}" + (f" ({panel.nfe[k]} calls)" if panel.nfe.get(k, k) != k else "") for k in steps]
    return Table(_fid_caption(panel, accuracy, reference_images), ["schedule optimizer", *heads], rows)


def fid_cell(estimate: Estimate, decimals: int) -> Cell:
    """A Fréchet distance: the mean over its seeds, and what every seed says."""
    mean = number(estimate.mean, decimals)
    values, errors = list(estimate.values.values()), list(estimate.errors.values())
    known = [error for error in errors if error is not None]
    if len(values) == 1:
        return Cell(mean, number(known[0], decimals) if known else "")
    if len(values) == 2:
        each = [with_error(value, error, decimals) for value, error in zip(values, errors, strict=True)]
        return Cell(mean, detail=" · ".join(each))
    errors_of = f", each ± {span(known, decimals)}" if known else ""
    return Cell(mean, detail=f"{span(values, decimals)} over {len(values)} runs{errors_of}")


def _fid_caption(panel: Panel, accuracy: Estimate | None, reference_images: Estimate | None) -> str:
    judged = ""
    if accuracy is not None:
        on = f" on {count(sorted(accuracy.n_images))} images" if accuracy.n_images else ""
        judged = f" (test accuracy {percent(accuracy)}{on})"
    reference = f"the {panel.split or 'unstated'} split"
    if reference_images is not None:
        reference = f"{count(sorted(reference_images.n_images))} images of {reference}"
    training = distinct(str(seed) for seed, _ in panel.seeds if seed is not None)
    sampling = distinct(str(seed) for _, seed in panel.seeds if seed is not None)
    return (
        f"{panel.metric} with the {panel.solver or 'unstated'} solver"
        + (f", {panel.variance} variance" if panel.variance else "")
        + f". Fréchet distance on the features of the {panel.metric.removeprefix('fid_')} network{judged}: "
        + f"{count(panel.n_images)} samples a run against {reference}"
        + (f", sampling seeds {', '.join(sampling)}" if sampling else "")
        + (f", training seeds {', '.join(training)}" if len(training) > 1 else "")
        + ". Large: mean over the seeds; small: each seed ± its jackknife standard error."
    )


def cost_table(rows: Sequence[Result]) -> Table | None:
    """Seconds and network calls of every stage, by schedule optimizer where the cost belongs to one."""
    costs: dict[tuple[str, str | None], dict[str, float]] = {}
    for row in rows:
        for kind in ("seconds", "network_calls"):
            if row.metric.startswith(f"{kind}_"):
                stage = row.metric.removeprefix(f"{kind}_")
                cost = costs.setdefault((stage, row.schedule_optimizer), {})
                cost[kind] = cost.get(kind, 0.0) + row.value
    if not costs:
        return None
    stages = distinct((stage for stage, _ in costs), STAGES)
    order = [None, *optimizers(rows), *distinct(name for _, name in costs)]
    keys = sorted(costs, key=lambda key: (stages.index(key[0]), order.index(key[1])))
    firsts = {stage: next(key for key in keys if key[0] == stage) for stage in stages}
    table = [
        [Cell(stage if firsts[stage] == (stage, name) else ""), Cell(name or ""), *_costs(costs[stage, name])]
        for stage, name in keys
    ]
    total = {
        kind: math.fsum(cost.get(kind, 0.0) for cost in costs.values()) for kind in ("seconds", "network_calls")
    }
    table.append([Cell("all"), Cell(""), *(cell._replace(bold=True) for cell in _costs(total))])
    caption = "A network call is one evaluation of the network on one image."
    return Table(caption, ["stage", "schedule optimizer", "seconds", "network calls"], table, headings=2)


def _costs(cost: dict[str, float]) -> list[Cell]:
    kinds = (("seconds", 1), ("network_calls", 0))
    return [Cell(number(cost[kind], decimals) if kind in cost else NOTHING) for kind, decimals in kinds]
