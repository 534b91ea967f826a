"""What fine-tuning on a schedule's timesteps changed, against the standard errors."""

from collections.abc import Sequence

from fewstep.report.estimates import Change, Line, Panel
from fewstep.report.finetuning_table import paired_change
from fewstep.report.overfitting import PLACES, TunedRows, overfitting_clause, relative
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM, paired_difference
from fewstep.report.printing import BITS_DECIMALS, fid_decimals, listing, number, signed, span
from fewstep.report.rows import changes
from fewstep.results import Result

Changes = list[tuple[Panel, Change]]


def finetuning_findings(
    likelihoods: Sequence[Panel], distances: Sequence[Panel], validation: Sequence[Panel], rows: Sequence[Result]
) -> list[str]:
    """For every fine-tuned schedule what became of its denoising error, bits/dim and distances; then a summary."""
    kinds = [_comparable(panels) for panels in (validation, likelihoods, distances)]
    schedules = list(dict.fromkeys((change.line.optimizer, change.steps) for kind in kinds for _, change in kind))
    sentences = []
    for optimizer, k in schedules:
        errors, bits, fids = (
            [(panel, change) for panel, change in kind if (change.line.optimizer, change.steps) == (optimizer, k)]
            for kind in kinds
        )
        tuned = TunedRows(rows, optimizer, k)
        clauses = [
            _denoising_errors(errors, tuned) if errors else None,
            overfitting_clause(tuned),
            _bits_per_dim(bits, rows) if bits else None,
            _distances(fids) if fids else None,
        ]
        told = "; ".join(clause for clause in clauses if clause)
        sentences.append(f"{_how(Line(optimizer), k)}{_share(tuned)}: {told}.")
    return sentences + (improvements(kinds[1], kinds[2], rows) if len(schedules) > 1 else [])


def improvements(bits: Changes, distances: Changes, rows: Sequence[Result]) -> list[str]:
    """For which schedules bits/dim or a distance improves by more than twice its standard error, if any.

    A distance's standard error is that over paired seeds, of which there must be enough for a claim.
    """
    sentences = []
    if bits:
        better = [
            f"{_schedule(change)} ({panel.variance} variance)"
            for panel, change in bits
            for error in [_bits_error(panel, change, rows)]
            if error is not None and change.mean_difference < -2 * error
        ]
        sentences.append(_summary("Bits/dim", better, len(bits)))
    paired = [
        (panel, change, paired_difference(change.after, change.before))
        for panel, change in distances
        if change.before is not None
    ]
    claims = [one for one in paired if one[2].seeds >= PAIRED_SEEDS_FOR_A_CLAIM]
    if claims:
        better = [
            f"{_schedule(change)} ({panel.metric}, {panel.solver})"
            for panel, change, difference in claims
            if difference.mean < -2 * difference.standard_error
        ]
        sentences.append(_summary("The Fréchet distance", better, len(claims)))
    return sentences


def _how(line: Line, k: int) -> str:
    """How the model was tuned."""
    if line.rounds == 1:
        return f"Fine-tuned on the {k} timesteps of {line.optimizer}"
    return f"Search and fine-tuning alternated in {line.rounds} rounds, from {line.untuned.optimizer} at K = {k}"


def _summary(quantity: str, better: Sequence[str], compared: int) -> str:
    beyond = "by more than twice its standard error"
    if not better:
        return f"{quantity} improves {beyond} through fine-tuning in none of {compared} comparisons."
    return (
        f"{quantity} improves {beyond} through fine-tuning in {len(better)} of {compared} comparisons: "
        f"{listing(better)}."
    )


def _schedule(change: Change) -> str:
    return f"{change.line.label} at K = {change.steps}"


def _share(tuned: TunedRows) -> str:
    """How many parameters were trained, where not all were."""
    trained, everything = tuned.of("trained_parameters"), tuned.of("parameters")
    if trained is None or everything is None or trained.mean == everything.mean:
        return ""
    return f" ({number(trained.mean, 0)} trained parameters; the model has {number(everything.mean, 0)})"


def _comparable(panels: Sequence[Panel]) -> Changes:
    return [(panel, change) for panel in panels for change in changes(panel) if change.differences]


def _denoising_errors(some: Changes, tuned: TunedRows) -> str:
    parts = []
    for panel, change in some:
        where = "on" if panel.metric.endswith("on_schedule") else "off"
        before = change.after.mean - change.mean_difference
        measured = tuned.of(f"validation_change_{where}_schedule")  # paired over images
        percentage = f"{signed(100 * change.mean_difference / before, 1)} %"
        parts.append(f"{relative(measured, before) if measured else percentage} {PLACES[where]}")
    return f"the denoising error on {some[0][0].split or 'held-out'} images changes by {listing(parts)}"


def _bits_per_dim(some: Changes, rows: Sequence[Result]) -> str:
    parts, beyond = [], []
    for panel, change in some:
        kind, error = f"{panel.variance or 'unstated'} variance", _bits_error(panel, change, rows)
        plus_minus = "" if error is None else f" ± {number(error, BITS_DECIMALS)}"
        parts.append(f"{signed(change.mean_difference, BITS_DECIMALS)}{plus_minus} ({kind})")
        if error is not None and abs(change.mean_difference) > 2 * error:
            beyond.append(kind)
    verdict = (
        f"beyond twice the standard error under {listing(beyond)}"
        if beyond
        else ("none beyond twice its standard error")
    )
    paired = all(paired_change(panel, change, rows) for panel, change in some)
    how = "paired over images" if paired else "taken as unpaired, so cautious"
    split = some[0][0].split or "held-out"
    return f"bits/dim on {split} images changes by {listing(parts)}, {verdict} ({how})"


def _bits_error(panel: Panel, change: Change, rows: Sequence[Result]) -> float | None:
    """The standard error of a change in bits/dim: paired over images where it was measured so."""
    paired = paired_change(panel, change, rows)
    return change.combined_error if paired is None else paired.standard_error


def _distances(some: Changes) -> str:
    parts, few = [], []
    for panel, change in some:
        decimals = fid_decimals([panel])
        before = change.after.mean - change.mean_difference
        name = f"{panel.metric} ({panel.solver or 'unstated solver'})"
        part = f"{name} goes from {number(before, decimals)} to {number(change.after.mean, decimals)}"
        if change.before is not None:
            difference = paired_difference(change.after, change.before)
            if difference.seeds < PAIRED_SEEDS_FOR_A_CLAIM:
                few.append(difference.seeds)
            elif not abs(difference.mean) > 2 * difference.standard_error:
                part += f", which {difference.seeds} paired seeds cannot tell from no change"
            else:
                part += f", {'better' if difference.mean < 0 else 'worse'} over {difference.seeds} paired seeds"
        parts.append(part)
    caution = f", which with {span(few, 0)} paired seeds is no claim either way" if few else ""
    return listing(parts) + caution
