"""What fine-tuning on a schedule's timesteps changed, against the standard errors."""

from collections.abc import Sequence

from fewstep.report.estimates import Change, Panel
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM, paired_difference
from fewstep.report.printing import BITS_DECIMALS, fid_decimals, listing, number, signed, span
from fewstep.report.rows import changes

Changes = list[tuple[Panel, Change]]


def finetuning_findings(
    likelihoods: Sequence[Panel], distances: Sequence[Panel], validation: Sequence[Panel]
) -> list[str]:
    """For every fine-tuned schedule what became of its denoising error, bits/dim and distances."""
    kinds = [_comparable(panels) for panels in (validation, likelihoods, distances)]
    schedules = dict.fromkeys((change.line.optimizer, change.steps) for kind in kinds for _, change in kind)
    sentences = []
    for optimizer, k in schedules:
        chosen = [
            [(panel, change) for panel, change in kind if (change.line.optimizer, change.steps) == (optimizer, k)]
            for kind in kinds
        ]
        clauses = [
            clause
            for some, clause_of in zip(chosen, (_denoising_errors, _bits_per_dim, _distances), strict=True)
            if some
            for clause in [clause_of(some)]
        ]
        sentences.append(f"Fine-tuned on the {k} timesteps of {optimizer}: {'; '.join(clauses)}.")
    return sentences


def _comparable(panels: Sequence[Panel]) -> Changes:
    return [(panel, change) for panel in panels for change in changes(panel) if change.differences]


def _denoising_errors(some: Changes) -> str:
    parts = []
    for panel, change in some:
        where = "at those timesteps" if panel.metric.endswith("on_schedule") else "midway between them"
        percentage = 100 * change.mean_difference / (change.after.mean - change.mean_difference)
        parts.append(f"{signed(percentage, 1)} % {where}")
    return f"the denoising error on {some[0][0].split or 'held-out'} images changes by {listing(parts)}"


def _bits_per_dim(some: Changes) -> str:
    parts, beyond = [], []
    for panel, change in some:
        kind, error = f"{panel.variance or 'unstated'} variance", change.combined_error
        plus_minus = "" if error is None else f" ± {number(error, BITS_DECIMALS)}"
        parts.append(f"{signed(change.mean_difference, BITS_DECIMALS)}{plus_minus} ({kind})")
        if error is not None and abs(change.mean_difference) > 2 * error:
            beyond.append(kind)
    verdict = (
        f"beyond twice the standard error under {listing(beyond)}"
        if beyond
        else ("none beyond twice its standard error")
    )
    return (
        f"bits/dim on {some[0][0].split or 'held-out'} images changes by {listing(parts)}, {verdict} "
        "(taken as unpaired, so cautious)"
    )


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
            elif not difference.is_claim:
                part += f", which {difference.seeds} paired seeds cannot tell from no change"
            else:
                part += f", {'better' if difference.mean < 0 else 'worse'} over {difference.seeds} paired seeds"
        parts.append(part)
    caution = f", which with {span(few, 0)} paired seeds is no claim either way" if few else ""
    return listing(parts) + caution
