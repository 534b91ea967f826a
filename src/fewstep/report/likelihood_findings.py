"""What the bits/dim say: each searched schedule against the full grid and against the fixed rules."""

from collections.abc import Sequence

from fewstep.report.estimates import Estimate, Line, Panel, combined_error
from fewstep.report.printing import BITS_DECIMALS, listing, number, signed, with_error
from fewstep.report.rows import FIXED_RULES, preferred

NEAR_FULL_GRID = 0.1
NEGLIGIBLE = 0.01


def likelihood_findings(panels: Sequence[Panel]) -> list[str]:
    """Sentences on the searched schedule of the fewest bits/dim, or on each fixed rule where none is searched.

    Of several decoder conventions they are on the first.
    """
    panel = preferred(panels)
    if panel is None:
        return []
    panels = [other for other in panels if other.decoder == panel.decoder]
    searched = [line for line in panel.untuned if line.optimizer not in FIXED_RULES]
    if not searched:
        return [against_full_grid(panel, line) for line in panel.untuned]
    best = min(searched, key=lambda line: min(estimate.mean for estimate in panel.untuned[line].values()))
    return [
        against_full_grid(panel, best),
        *against_fixed_rules(panel, best),
        *over_variances(panels, best),
        *costly_full_grids(panels, best),
    ]


def costly_full_grids(panels: Sequence[Panel], line: Line) -> list[str]:
    """Variances under which the full grid costs more bits than a few steps, beyond twice the standard error."""
    sentences = []
    for panel in panels:
        if panel.reference is None or line not in panel.untuned:
            continue
        k, fewest = min(panel.untuned[line].items(), key=lambda item: item[1].mean)
        error = combined_error(panel.reference, fewest)
        if error is not None and panel.reference.mean - fewest.mean > 2 * error:
            sentences.append(
                f"Under {panel.variance or 'this'} variance the full grid costs {_bits(panel.reference)}, more "
                f"than {line.label} at K = {k} ({_bits(fewest)}); the notes below say why more can cost more."
            )
    return sentences


def against_full_grid(panel: Panel, line: Line) -> str:
    """What the most steps lose to the full grid, and the fewest steps that come near it."""
    by_k = panel.untuned[line]
    most = max(by_k)
    under = f"Under {panel.variance} variance " if panel.variance else ""
    figure = f"{under}{line.label} gives {_bits(by_k[most])} bits/dim at K = {most}"
    if panel.reference is None:
        return f"{figure}; the full grid was not measured."
    grid = f"all {panel.reference_steps} steps give" if panel.reference_steps else "the full grid gives"
    gap = by_k[most].mean - panel.reference.mean
    near = [k for k in sorted(by_k) if by_k[k].mean - panel.reference.mean <= NEAR_FULL_GRID]
    fewest = f"the fewest steps measured that come within {NEAR_FULL_GRID} of it are K = {near[0]}" if near else ""
    return (
        f"{figure} and {grid} {_bits(panel.reference)}, so {most} steps {'lose' if gap >= 0 else 'gain'} "
        f"{number(abs(gap), BITS_DECIMALS)} against the full grid; "
        f"{fewest or f'no K measured comes within {NEAR_FULL_GRID} of it'}."
    )


def against_fixed_rules(panel: Panel, line: Line) -> list[str]:
    """The difference to the lowest fixed rule at each K, and where it exceeds twice its standard error."""
    parts: list[str] = []
    clear: dict[str, list[str]] = {"lower": [], "higher": []}
    for k, estimate in sorted(panel.untuned[line].items()):
        rival = best_fixed_rule(panel, k)
        if rival is None:
            continue
        other = panel.untuned[rival][k]
        difference, error = estimate.mean - other.mean, combined_error(estimate, other)
        parts.append(f"{signed(difference, BITS_DECIMALS)} at K = {k} ({rival.label})")
        if error is not None and abs(difference) > 2 * error:
            clear["lower" if difference < 0 else "higher"].append(str(k))
    if not parts:
        return []
    threshold = "more than twice the combined standard error"
    verdicts = [f"{side} by {threshold} at K = {listing(ks)}" for side, ks in clear.items() if ks]
    verdict = f"{line.label} is {listing(verdicts)}" if verdicts else f"no difference is {threshold}"
    return [
        f"Its difference to the best fixed rule is {listing(parts)}, negative where {line.label} is lower; "
        f"{verdict}. (That standard error takes the rows as independent; they share their images, "
        "so it is too large and the test cautious.)"
    ]


def best_fixed_rule(panel: Panel, k: int) -> Line | None:
    """The fixed rule with the lowest mean at K steps."""
    measured = [line for line, by_k in panel.untuned.items() if line.optimizer in FIXED_RULES and k in by_k]
    return min(measured, key=lambda line: panel.untuned[line][k].mean, default=None)


def over_variances(panels: Sequence[Panel], line: Line) -> list[str]:
    """Whether any fixed rule is lower than a searched schedule by more than a negligible amount."""
    beaten: list[str] = []
    variances: list[str] = []
    for panel in panels:
        for k, estimate in sorted(panel.untuned.get(line, {}).items()):
            rival = best_fixed_rule(panel, k)
            if rival is None:
                continue
            variances += [panel.variance] if panel.variance and panel.variance not in variances else []
            excess = estimate.mean - panel.untuned[rival][k].mean
            if excess > NEGLIGIBLE:
                kind = f", {panel.variance}" if panel.variance else ""
                beaten.append(f"{rival.label} by {number(excess, BITS_DECIMALS)} (K = {k}{kind})")
    if not variances:
        return []
    where = f"lower than {line.label} by more than {NEGLIGIBLE} bits/dim"
    if beaten:
        return [f"A fixed rule is {where} in these cases: {listing(beaten)}."]
    return [f"Under {listing(variances)} variance no fixed rule is {where} at any K."]


def _bits(estimate: Estimate) -> str:
    return with_error(estimate.mean, estimate.standard_error, BITS_DECIMALS)
