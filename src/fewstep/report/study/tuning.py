"""Fine-tuning on a schedule's own timesteps: what improves beyond the errors, and what does not."""

from collections.abc import Sequence
from typing import NamedTuple

from fewstep.report.differences import Difference, chance, seeds_difference
from fewstep.report.estimates import Change, Estimate
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.overfitting import TunedRows, overfitting_clause
from fewstep.report.paired import PAIRED_SEEDS_FOR_A_CLAIM
from fewstep.report.part import Part
from fewstep.report.printing import BITS_DECIMALS, NOTHING, fid_decimals, listing
from fewstep.report.rows import changes
from fewstep.report.study.parts import FINETUNE, Study
from fewstep.report.tables import Cell, Table


class Outcome(NamedTuple):
    """What tuning changed in one quantity of one schedule."""

    optimizer: str
    steps: int
    quantity: str
    difference: Difference
    decimals: int

    @property
    def schedule(self) -> str:
        """The schedule in words."""
        return f"{self.optimizer} at K = {self.steps}"


def finetuning_section(study: Study) -> list[str]:
    """The changes, tuned minus untuned, and for which of them they are claims."""
    blocks = study.without([FINETUNE])
    part = study.get(FINETUNE)
    if part is None:
        return blocks
    bits, distances = _bits(part), _distances(part)
    if not bits and not distances:
        return [*blocks, "No tuned schedule was measured before and after."]
    sentences = [
        *_summary("Test bits/dim", bits, ""),
        *_summary("The Fréchet distance", distances, _seeds(distances)),
    ]
    fitting = [
        f"{optimizer} at K = {K}: {clause}."
        for optimizer, K in dict.fromkeys((one.optimizer, one.steps) for one in [*bits, *distances])
        if (clause := overfitting_clause(TunedRows(part.rows, optimizer, K)))
    ]
    return [*blocks, *bullets(sentences), markdown_table(_table([*bits, *distances])), *bullets(fitting)]


def _bits(part: Part) -> list[Outcome]:
    """The changes in bits/dim: paired over images where they were measured so."""
    outcomes = []
    for likelihood in part.likelihoods:
        panel = likelihood.panel
        for change in changes(panel):
            tuned = TunedRows(part.rows, change.line.optimizer, change.steps)
            paired = tuned.of("bits_per_dim_change", panel.variance, panel.decoder)
            difference = _of_images(change, paired)
            if difference:
                outcomes.append(
                    Outcome(
                        change.line.optimizer,
                        change.steps,
                        f"bits/dim, {likelihood.label}",
                        difference,
                        BITS_DECIMALS,
                    )
                )
    return outcomes


def _of_images(change: Change, paired: Estimate | None) -> Difference | None:
    if paired is not None:
        return Difference(paired.mean, paired.standard_error)
    return Difference(change.mean_difference, change.combined_error) if change.differences else None


def _distances(part: Part) -> list[Outcome]:
    """The changes in Fréchet distance, paired over seeds."""
    return [
        Outcome(
            change.line.optimizer,
            change.steps,
            f"{distance.panel.metric}, {distance.solver}",
            seeds_difference(change.after, change.before),
            fid_decimals([distance.panel]),
        )
        for distance in part.distances
        for change in changes(distance.panel)
        if change.before is not None and change.differences
    ]


def _seeds(distances: Sequence[Outcome]) -> str:
    """What the seeds of the distances allow to be said."""
    if not distances:
        return ""
    seeds = max(one.difference.seeds or 0 for one in distances)
    if seeds < PAIRED_SEEDS_FOR_A_CLAIM:
        return f" A claim needs {PAIRED_SEEDS_FOR_A_CLAIM} paired seeds; here are at most {seeds}."
    return f" (Where nothing differs, chance puts {100 * chance(seeds):.0f} % of comparisons there.)"


def _summary(quantity: str, outcomes: Sequence[Outcome], caution: str) -> list[str]:
    """For which schedules it improves and worsens by more than twice the standard error."""
    if not outcomes:
        return []
    claims = [one for one in outcomes if one.difference.is_claim]
    words = []
    for word, sign in (("improves", -1), ("worsens", 1)):
        found = [one for one in claims if sign * one.difference.mean > 0]
        which = f"in {len(found)}: {listing([_named(one) for one in found])}" if found else "in none"
        words.append(f"{word} by more than twice its standard error {which}")
    text = f"{quantity}: of {len(outcomes)} comparisons, tuned minus untuned, it {'; it '.join(words)}.{caution}"
    return [text]


def _named(one: Outcome) -> str:
    return f"{one.schedule} ({one.quantity}, {one.difference.text(one.decimals)})"


def _table(outcomes: Sequence[Outcome]) -> Table:
    quantities = list(dict.fromkeys(one.quantity for one in outcomes))
    cells = {(one.schedule, one.quantity): one.difference.cell(one.decimals) for one in outcomes}
    rows = [
        [Cell(schedule), *(cells.get((schedule, quantity), Cell(NOTHING)) for quantity in quantities)]
        for schedule in dict.fromkeys(one.schedule for one in outcomes)
    ]
    caption = (
        "Tuned minus untuned, negative where tuning helps: bits/dim ± standard error paired over test images, "
        "Fréchet distances ± standard error over paired seeds; bold: beyond twice the standard error."
    )
    return Table(caption, ["schedule", *quantities], rows)
