"""Sentences made from the numbers: what they show, and what they do not."""

from collections.abc import Sequence
from typing import NamedTuple

from fewstep.report.convention_findings import convention_findings
from fewstep.report.cost_findings import cost_findings
from fewstep.report.fid_findings import distance_findings, floor_findings, rank_findings
from fewstep.report.finetuning_findings import finetuning_findings
from fewstep.report.likelihood_findings import likelihood_findings
from fewstep.report.precision_findings import precision_findings
from fewstep.report.printing import count, listing, number, span
from fewstep.report.rounds import rounds_findings
from fewstep.report.rows import (
    VARIANCES,
    distinct,
    fid_metrics,
    fid_panels,
    likelihood_panels,
    of_metric,
    validation_panels,
)
from fewstep.report.statistics_findings import statistics_findings
from fewstep.results import Result
from fewstep.statistics.covariance import MOST_DIMENSIONS, UNCHECKED

LARGEST_WIENER_RATIO = 1.05


class Finding(NamedTuple):
    """A topic and what the numbers say about it."""

    topic: str
    sentences: list[str]


def findings(rows: Sequence[Result]) -> list[Finding]:
    """Every topic that the results hold numbers for."""
    bits = likelihood_panels(rows)
    distances = [panel for metric in fid_metrics(rows) for panel in fid_panels(rows, metric)]
    quality = [*distance_findings(distances), *rank_findings(bits, distances), *floor_findings(distances)]
    topics = [
        Finding(
            "Likelihood.", [*likelihood_findings(bits), *steps_within_findings(rows), *convention_findings(rows)]
        ),
        Finding("Sample quality.", quality),
        Finding("Fine-tuning.", finetuning_findings(bits, distances, validation_panels(rows), rows)),
        Finding("Search and fine-tuning in turn.", rounds_findings(rows)),
        Finding("Few network calls.", statistics_findings(rows)),
        Finding("Precision.", precision_findings(rows)),
        Finding("Cost of the search.", cost_findings(rows)),
        Finding("Not shown.", limits(rows)),
    ]
    health = Finding("Health of the network.", health_findings(rows))
    topics.insert(0 if is_unhealthy(rows) else -1, health)  # first where it voids what follows
    return [topic for topic in topics if topic.sentences]


def steps_within_findings(rows: Sequence[Result]) -> list[str]:
    """How many steps are enough, under `optimal` variance, or else under the first one measured."""
    near = [row for row in rows if row.metric.startswith("steps_within_") and not row.finetuned]
    variances = distinct((row.variance for row in near), VARIANCES)
    if not variances:
        return []
    fewest: dict[float, list[int]] = {}
    for row in near:
        if row.variance == variances[0]:
            tolerance = float(row.metric.removeprefix("steps_within_"))
            fewest.setdefault(tolerance, []).append(round(row.value))
    parts = [
        f"within {tolerance:g} bits/dim with K = {span(ks, 0)}"
        for tolerance, ks in sorted(fewest.items(), reverse=True)
    ]
    return [
        f"How many steps are enough: under {variances[0]} variance the best schedule stays {listing(parts)} of "
        "the full grid, on the images that the search has seen."
    ]


def is_unhealthy(rows: Sequence[Result]) -> bool:
    """Whether the network is somewhere worse than the linear (Wiener) denoiser, beyond the check's allowance."""
    ratio = of_metric(rows, "wiener_ratio_max")
    return ratio is not None and max(ratio.values.values()) > LARGEST_WIENER_RATIO


def health_findings(rows: Sequence[Result]) -> list[str]:
    """Whether the network is anywhere worse than the linear (Wiener) denoiser, and what follows."""
    ratio = of_metric(rows, "wiener_ratio_max")
    if ratio is None:
        return [
            f"The network’s health is not checked: the linear (Wiener) denoiser of images of {count([size])} "
            f"dimensions needs their covariance, which is worked out up to {count([MOST_DIMENSIONS])} dimensions."
            for size in sorted({round(row.value) for row in rows if row.metric == UNCHECKED})
        ]
    worst = max(ratio.values.values())
    images = f" on {count(sorted(ratio.n_images))} images" if ratio.n_images else ""
    measured = (
        f"The network’s denoising error is at most {number(worst, 2)} times that of the linear (Wiener) "
        f"denoiser at any timestep{images}; the check allows {LARGEST_WIENER_RATIO}"
    )
    if not is_unhealthy(rows):
        return [f"{measured} and holds."]
    return [
        f"{measured} and fails: somewhere the network is worse than a linear filter, every objective then "
        "spends steps there, and the searched schedules should not be trusted until it is trained longer."
    ]


def limits(rows: Sequence[Result]) -> list[str]:
    """What no number above can say."""
    sentences = []
    seeds = distinct(None if row.train_seed is None else str(row.train_seed) for row in rows)
    if len(seeds) == 1:
        sentences.append(
            "One network was trained, so how these figures vary from one training to the next is not measured."
        )
    datasets = distinct(row.dataset for row in rows)
    if datasets:
        sentences.append(f"Nothing here is measured on data other than {listing(datasets)}.")
    return sentences
