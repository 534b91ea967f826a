"""What was run: networks and their health, images, samples, seeds, time; and how to repeat it."""

from collections.abc import Sequence

from fewstep.report.estimates import Estimate
from fewstep.report.findings import LARGEST_WIENER_RATIO
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.part import Part
from fewstep.report.printing import NOTHING, count, listing, number, percent, span, with_error
from fewstep.report.rows import distinct
from fewstep.report.study.parts import PARTS, Study
from fewstep.report.tables import STAGES, Cell, Table

COMMAND = "fewstep experiment=digits_full"
WIENER = "wiener_ratio_max"


def header(study: Study) -> list[str]:
    """The blocks above all findings."""
    lines = [
        f"To repeat it: `{COMMAND}`. Parts that are complete are skipped, so the same command goes on after an "
        f"interruption.",
        *_parts(study),
        *_samples(study),
        *_judge(study),
        *_time(study),
        "One network was trained per training configuration (one training seed): how figures vary from one "
        "training to the next is not measured. ± is one standard error: over test images for bits/dim, over "
        "sampling seeds for Fréchet distances. The error of a difference in bits/dim on the same images is at "
        "most the sum of the two schedules’ errors above the full grid, paired over images, or that of "
        "independent rows where it is smaller or the other was not measured.",
    ]
    return [*bullets(lines), *_networks(study), *_warnings(study)]


def _parts(study: Study) -> list[str]:
    missing = [name for name in PARTS if name not in study.parts]
    lines = [f"Parts run: {', '.join(study.parts)}."]
    return [*lines, f"Parts not run: {', '.join(missing)}."] if missing else lines


def _networks(study: Study) -> list[str]:
    """A row for every network; none where no network was run."""
    rows = [
        [
            Cell(network.name),
            Cell(network.process),
            Cell(f"L_{network.loss}" if network.loss else NOTHING),
            Cell(span(steps, 0) if (steps := _grid(network)) else NOTHING),
            Cell(_count(_wiener(network))),
            Cell(count(images) if (images := _test_images(network)) else NOTHING),
            Cell(_ratio(_wiener(network))),
        ]
        for network in study.networks
    ]
    heads = [
        "network",
        "process",
        "training loss",
        "grid’s timesteps",
        "images behind the statistics",
        "test images",
        "largest error against the Wiener filter",
    ]
    caption = (
        "The last column is the network’s health: the largest ratio, over timesteps, of its denoising error to "
        f"that of the linear (Wiener) denoiser; up to {LARGEST_WIENER_RATIO} passes."
    )
    return [markdown_table(Table(caption, heads, rows, headings=3))] if rows else []


def _grid(network: Part) -> list[int]:
    return sorted({one.panel.reference_steps for one in network.likelihoods if one.panel.reference_steps})


def _test_images(network: Part) -> list[int]:
    return sorted({n for likelihood in network.likelihoods for n in likelihood.panel.n_images})


def _wiener(network: Part) -> Estimate | None:
    return network.metric(WIENER)


def _count(ratio: Estimate | None) -> str:
    return count(sorted(ratio.n_images)) if ratio and ratio.n_images else NOTHING


def _ratio(ratio: Estimate | None) -> str:
    if ratio is None:
        return NOTHING
    failed = ratio.mean > LARGEST_WIENER_RATIO
    return with_error(ratio.mean, ratio.standard_error, 2) + (" **fails**" if failed else "")


def _warnings(study: Study) -> list[str]:
    """The networks that a linear filter beats somewhere, and what follows."""
    failed = [
        f"{network.name} ({number(ratio.mean, 2)})"
        for network in study.networks
        if (ratio := _wiener(network)) and ratio.mean > LARGEST_WIENER_RATIO
    ]
    if not failed:
        return []
    return [
        f"**Warning.** {listing(failed)}: somewhere the network is worse than a linear filter. Every objective "
        f"spends steps there, so the searched schedules of these networks, and what is said of them below, should "
        f"not be trusted until they are trained longer."
    ]


def _samples(study: Study) -> list[str]:
    panels = [distance.panel for part in study.parts.values() for distance in part.distances]
    if not panels:
        return ["No part has samples, so no Fréchet distance was measured."]
    samples = sorted({n for panel in panels for n in panel.n_images})
    seeds = distinct(str(seed) for panel in panels for _, seed in panel.seeds)
    return [
        f"Samples: {count(samples)} for every Fréchet distance and seed, sampling seeds {', '.join(seeds)}; every "
        f"row starts from the same noise, so rows are paired by seed."
    ]


def _judge(study: Study) -> list[str]:
    """The classifier whose features judge samples."""
    found = [accuracy for part in study.parts.values() if (accuracy := part.metric("feature_accuracy"))]
    said = distinct(f"{percent(accuracy)} of {count(sorted(accuracy.n_images))} test images" for accuracy in found)
    return [f"Features: a classifier that is right on {listing(said)}."] if said else []


def _time(study: Study) -> list[str]:
    """Seconds by stage; a run that several parts share is counted once."""
    seconds = {
        (row.metric.removeprefix("seconds_"), row.schedule_optimizer, row.value)
        for part in study.parts.values()
        for row in part.rows
        if row.metric.startswith("seconds_")
    }
    if not seconds:
        return []
    stages: Sequence[str] = distinct(sorted(stage for stage, _, _ in seconds), STAGES)
    totals = {stage: sum(value for name, _, value in seconds if name == stage) for stage in stages}
    by_stage = listing([f"{stage} {number(total / 60, 1)}" for stage, total in totals.items()])
    return [f"Wall time: {number(sum(totals.values()) / 60, 1)} minutes in all ({by_stage})."]
