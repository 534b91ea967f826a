"""What was run: processes, networks and their health, samples, seeds, time; and what is independent of what."""

from collections.abc import Sequence

from fewstep.report.ddim.networks import Networks
from fewstep.report.findings import LARGEST_WIENER_RATIO
from fewstep.report.markdown import bullets, markdown_table
from fewstep.report.printing import NOTHING, count, listing, number, percent
from fewstep.report.rows import distinct
from fewstep.report.tables import STAGES, Cell, Table

COMMAND = "fewstep experiment=digits_ddim"
INDEPENDENCE = (
    "What is independent: a difference between two rows is taken seed by seed, because all rows start from the "
    "same noise. A training seed’s five differences share its network, and a sampling seed’s differences share "
    "its noise, so the differences of one sampling seed are averaged over networks first, and the interval is "
    "Student’s over sampling seeds. It says what other noise would give **with these networks**. Two training "
    "seeds give no interval of their own, so each network’s difference is shown, and nothing is called better "
    "where they differ in sign."
)


def header(everything: Sequence[Networks], parts: Sequence[str]) -> list[str]:
    """The blocks above all findings."""
    lines = [
        f"To repeat it: `{COMMAND}`. Parts that are complete are skipped, so the same command goes on after an "
        "interruption.",
        *([f"Parts run: {', '.join(parts)}."] if parts else []),
        *measured(everything),
        INDEPENDENCE,
        "The discretization loss is a reconstruction of Huang 2024 (arXiv 2412.10786), of which the abstract "
        "alone is public: no table of that paper is reproduced here.",
    ]
    return [*bullets(lines), *health(everything)]


def measured(everything: Sequence[Networks]) -> list[str]:
    """Samples, their judge, and the time that all of it took."""
    return [*_samples(everything), *_judge(everything), *_time(everything)]


def _samples(everything: Sequence[Networks]) -> list[str]:
    panels = [networks.panel for networks in everything if networks.panel]
    if not panels:
        return ["No part has samples."]
    samples = sorted({n for panel in panels for n in panel.n_images})
    seeds = distinct(str(seed) for panel in panels for _, seed in panel.seeds)
    return [f"Samples: {count(samples)} for every Fréchet distance and seed, sampling seeds {', '.join(seeds)}."]


def _judge(everything: Sequence[Networks]) -> list[str]:
    found = [one for networks in everything if (one := networks.single("feature_accuracy"))]
    said = distinct(f"{percent(one)} of {count(sorted(one.n_images))} test images" for one in found)
    return [f"Features: a classifier that is right on {listing(said)}."] if said else []


def _time(everything: Sequence[Networks]) -> list[str]:
    """Seconds by stage; a run that several parts share is counted once."""
    seconds = {
        (row.metric.removeprefix("seconds_"), row.schedule_optimizer, row.value)
        for networks in everything
        for row in networks.rows
        if row.metric.startswith("seconds_")
    }
    if not seconds:
        return []
    stages = distinct(sorted(stage for stage, _, _ in seconds), STAGES)
    totals = {stage: sum(value for name, _, value in seconds if name == stage) for stage in stages}
    by_stage = listing([f"{stage} {number(total / 60, 1)}" for stage, total in totals.items()])
    return [f"Wall time: {number(sum(totals.values()) / 60, 1)} minutes in all ({by_stage})."]


def health(everything: Sequence[Networks]) -> list[str]:
    """Every network's largest error over the Wiener filter's, and a warning where one fails."""
    rows, failed = [], []
    for networks in everything:
        ratio = networks.single("wiener_ratio_max")
        values = {seed: value for (seed, _), value in ratio.values.items()} if ratio else {}
        rows.append([Cell(networks.process), *(_ratio(values.get(seed)) for seed in _seeds(everything))])
        failed += [
            f"{networks.process}, seed {seed} ({number(value, 2)})"
            for seed, value in values.items()
            if value > LARGEST_WIENER_RATIO
        ]
    caption = (
        "Health: the largest ratio, over timesteps, of a network’s denoising error to that of the linear (Wiener) "
        f"denoiser; up to {LARGEST_WIENER_RATIO} passes."
    )
    heads = ["process", *(f"training seed {seed}" for seed in _seeds(everything))]
    found = [markdown_table(Table(caption, heads, rows))] if rows else []
    if failed:
        found.append(
            f"**Warning.** {listing(failed)}: somewhere the network is worse than a linear filter. Every "
            "objective spends steps there, so that what is said of its searched schedules should not be trusted."
        )
    return found


def _seeds(everything: Sequence[Networks]) -> list[int]:
    return sorted({seed for networks in everything for seed in networks.seeds})


def _ratio(value: float | None) -> Cell:
    if value is None:
        return Cell(NOTHING)
    return Cell(number(value, 3), detail="fails" if value > LARGEST_WIENER_RATIO else "")
