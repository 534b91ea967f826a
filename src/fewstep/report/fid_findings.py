"""What the Fréchet distances say; with few paired seeds only where they lie, never which row is better."""

from collections.abc import Sequence
from itertools import combinations

from fewstep.report.estimates import Estimate, Line, Panel
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM, paired_difference
from fewstep.report.printing import count, fid_decimals, listing, number, signed, span
from fewstep.report.rows import FIXED_RULES, by_optimizer, distinct, preferred


def paired_seeds(panel: Panel, k: int) -> int:
    """Independent seeds that every row of a panel shares at K steps."""
    estimates = [by_k[k] for by_k in panel.untuned.values() if k in by_k]
    shared = set.intersection(*(set(estimate.values) for estimate in estimates))
    return max(len({seeds[i] for seeds in shared}) for i in (0, 1))


def distance_findings(panels: Sequence[Panel]) -> list[str]:
    """Ranges where there are too few paired seeds for a claim, comparisons with the best fixed rule elsewhere."""
    sentences = []
    for metric in distinct(panel.metric for panel in panels):
        of_metric = [panel for panel in panels if panel.metric == metric and panel.untuned]
        cells = [(panel, k) for panel in of_metric for k in panel.steps if _rows(panel, k)]
        few = [(panel, k) for panel, k in cells if paired_seeds(panel, k) < PAIRED_SEEDS_FOR_A_CLAIM]
        if few:
            seeds = span([paired_seeds(panel, k) for panel, k in few], 0)
            sentences.append(
                f"With {seeds} paired seed{'' if seeds == '1' else 's'}, where a claim needs "
                f"{PAIRED_SEEDS_FOR_A_CLAIM}, no row of {metric} may be called better than another. "
                f"The rows’ means: {'; '.join(_ranges(few))}."
            )
        for panel, k in cells:
            if (panel, k) not in few:
                sentences += _comparisons(panel, k)
    return sentences


def _rows(panel: Panel, k: int) -> dict[Line, Estimate]:
    return {line: by_k[k] for line, by_k in panel.untuned.items() if k in by_k}


def _ranges(cells: Sequence[tuple[Panel, int]]) -> list[str]:
    """Per solver the least and greatest mean of every K, and how far apart the seeds of one row lie."""
    parts = []
    for name in distinct(_name(panel) for panel, _ in cells):
        here = [(panel, k) for panel, k in cells if _name(panel) == name]
        decimals = fid_decimals([panel for panel, _ in here])
        at = [f"{span([e.mean for e in _rows(panel, k).values()], decimals)} at K = {k}" for panel, k in here]
        apart = [
            max(e.values.values()) - min(e.values.values()) for panel, k in here for e in _rows(panel, k).values()
        ]
        parts.append(
            f"with {name} {listing(at)} (the seeds of one row lie up to {number(max(apart), decimals)} apart)"
        )
    return parts


def _name(panel: Panel) -> str:
    return f"{panel.solver or 'unstated solver'}" + (f" with {panel.variance} variance" if panel.variance else "")


def _comparisons(panel: Panel, k: int) -> list[str]:
    """Each searched row against the best fixed rule; the two lowest rows where nothing is searched."""
    rows, decimals = _rows(panel, k), fid_decimals([panel])
    ordered = sorted(rows, key=lambda line: rows[line].mean)
    fixed = [line for line in ordered if line.optimizer in FIXED_RULES]
    searched = [line for line in rows if line.optimizer not in FIXED_RULES]
    pairs = [(line, fixed[0]) for line in searched] if fixed else []
    sentences = []
    for a, b in pairs or [(ordered[0], other) for other in ordered[1:2]]:
        difference = paired_difference(rows[a], rows[b])
        figure = (
            f"{signed(difference.mean, decimals)} ± {number(difference.half_width, decimals)}, "
            f"95 % interval over {difference.seeds} paired seeds"
        )
        if not difference.is_claim:
            verdict = f"{a.label} and {b.label} cannot be told apart"
        elif difference.mean < 0:
            verdict = f"{a.label} is better than {b.label}"
        else:
            verdict = f"{a.label} is worse than {b.label}"
        best = ", the best fixed rule" if pairs else ""
        sentences.append(f"By {panel.metric} ({_name(panel)}) at K = {k} {verdict}{best} ({figure}).")
    return sentences


def rank_findings(likelihoods: Sequence[Panel], distances: Sequence[Panel]) -> list[str]:
    """How many pairs of schedule optimizers bits/dim and the mean distance put in opposite order."""
    bits = preferred(likelihoods)
    if bits is None:
        return []
    sentences = []
    for metric in distinct(panel.metric for panel in distances):
        panel = next(panel for panel in distances if panel.metric == metric)
        counts = {k: opposite_pairs(bits, panel, k) for k in panel.steps}
        counts = {k: (opposite, pairs) for k, (opposite, pairs) in counts.items() if pairs}
        if not counts:
            continue
        parts = [f"{opposite} of {pairs} at K = {k}" for k, (opposite, pairs) in counts.items()]
        alike = all(opposite == 0 for opposite, _ in counts.values())
        verdict = "rank the schedules alike" if alike else "do not rank the schedules alike"
        under = f" ({bits.variance} variance)" if bits.variance else ""
        few = min(paired_seeds(panel, k) for k in counts) < PAIRED_SEEDS_FOR_A_CLAIM
        caution = "; as orders of few seeds’ means these counts are themselves uncertain" if few else ""
        sentences.append(
            f"Bits/dim{under} and mean {metric} ({_name(panel)}) {verdict}: of the pairs of schedule optimizers "
            f"they put {listing(parts)} in opposite order{caution}."
        )
    return sentences


def opposite_pairs(bits: Panel, panel: Panel, k: int) -> tuple[int, int]:
    """Pairs of schedule optimizers that two metrics order oppositely at K steps, and all pairs that both hold."""
    a = {name: by_k[k].mean for name, by_k in by_optimizer(bits.untuned, bits.variance).items() if k in by_k}
    b = {name: by_k[k].mean for name, by_k in by_optimizer(panel.untuned, bits.variance).items() if k in by_k}
    pairs = list(combinations([name for name in a if name in b], 2))
    return sum((a[x] - a[y]) * (b[x] - b[y]) < 0 for x, y in pairs), len(pairs)


def floor_findings(panels: Sequence[Panel]) -> list[str]:
    """The distance between real images and real images, and why it bounds nothing."""
    sentences = []
    for metric in distinct(panel.metric for panel in panels):
        panel = next(panel for panel in panels if panel.metric == metric)
        if panel.reference is None:
            continue
        samples = f" ({count(panel.n_images)} in the rows)" if panel.n_images else ""
        sentences.append(
            f"The floor, {count(sorted(panel.reference.n_images))} real images against the "
            f"{panel.split or 'reference'} split, is {number(panel.reference.mean, fid_decimals([panel]))}; "
            f"a Fréchet distance falls with the number of images{samples}, so this floor is no bound."
        )
    return sentences
