"""Networks in which every finding shows, and their numbers to turn."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from fewstep.report.ddim.networks import Networks, group
from fewstep.report.ddim.page import blocks
from fewstep.results import Result

Rows = list[Result]
STEPS = (4, 8)
QUALITY = {"even": 2.0, "tangent": 3.0, "karras": 4.0, "elbo_dp": 5.0, "discretization_dp": 1.0}
OBJECTIVE = {"even": 0.4, "tangent": 0.5, "karras": 0.6, "elbo_dp": 0.7, "discretization_dp": 0.3}
NOISE = (-0.02, 0.01, 0.0, 0.03, -0.02)  # of the sampling seeds, all rows alike; each row adds a little of its own


def nodes(name: str, K: int, process: str) -> list[float]:
    """Noise levels, ascending: even angles on cosine for even stride, low ones for what is searched."""
    if name == "even":
        angles = [(i if process == "cosine" else i * i / K) / K * 1.5 for i in range(1, K + 1)]
        return [math.tan(angle) for angle in angles]
    low = 0.1 if name == "discretization_dp" else 0.6
    return [*(low * 1.1**i for i in range(1, K)), 80.0]


def network(process: str, seed: int) -> Rows:
    of = {"dataset": "digits", "process": process, "train_seed": seed, "finetuned": False}
    rows = [
        Result(**of, metric="wiener_ratio_max", value=0.9 + 0.01 * seed, standard_error=0.01, n_images=128),
        Result(dataset="digits", metric="feature_accuracy", value=0.98, standard_error=0.01, n_images=360),
        Result(
            dataset="digits",
            schedule_optimizer="data",
            metric="fid_digits",
            value=0.9,
            n_images=360,
            split="train",
        ),
        Result(**of, metric="seconds_pretrain", value=60.0 + seed),
    ]
    for place, (name, quality) in enumerate(QUALITY.items()):
        for K in STEPS:
            at = of | {"schedule_optimizer": name, "steps": K}
            sampled = at | {"solver": "ddim", "nfe": K}
            for s, noise in enumerate(NOISE):
                value = (quality + 0.1 * seed) * 4 / K + noise + 1e-3 * NOISE[(s + place) % 5]
                kind = {"metric": "fid_digits", "sample_seed": s, "n_images": 2000, "split": "train"}
                rows.append(Result(**sampled, **kind, value=value, standard_error=0.1))
            for metric, unit in (("distance_pixels", 0.02), ("distance_features", 0.4)):
                kind = {"metric": metric, "sample_seed": 0, "n_images": 512, "standard_error": 0.001}
                rows.append(Result(**sampled, **kind, value=unit * quality * 4 / K))
            value = OBJECTIVE[name] + 0.01 * seed
            kind = {"metric": "objective_discretization", "n_images": 360, "split": "test", "standard_error": 0.01}
            rows.append(Result(**at, **kind, value=value))
            for level in nodes(name, K, process):
                rows.append(Result(**at, metric="node_log_snr", value=-2 * math.log(level)))
    for K, gap in zip(STEPS, (0.002, 0.03), strict=True):
        at = of | {"schedule_optimizer": "discretization_gradient", "steps": K}
        rows.append(Result(**at, metric="optimality_gap", value=gap, standard_error=0.001, n_images=128))
    return [*rows, *tuned(rows)]


def tuned(rows: Rows) -> Rows:
    """The searched schedule tuned: nearer by 0.2, alternated by 0.3."""
    of_samples = [
        row for row in rows if row.metric == "fid_digits" and row.schedule_optimizer == "discretization_dp"
    ]
    return [
        replace(row, finetuned=True, schedule_optimizer=name, value=row.value - gain)
        for row in of_samples
        for name, gain in (("discretization_dp", 0.2), ("discretization_dp_rounds3", 0.3))
    ]


@pytest.fixture
def rows() -> Rows:
    """Two processes, two networks each."""
    return [row for process in ("linear", "cosine") for seed in (0, 1) for row in network(process, seed)]


@pytest.fixture
def changed() -> Callable[..., Rows]:
    """The rows with `by` added to every value that fits; at least one must."""

    def change(rows: Rows, by: float, **of: object) -> Rows:
        turned = [
            replace(row, value=row.value + by) if all(getattr(row, k) == v for k, v in of.items()) else row
            for row in rows
        ]
        assert turned != rows
        return turned

    return change


@pytest.fixture
def section() -> Callable[[Rows, str], str]:
    """What stands under the first heading that contains some words, up to the next heading."""

    def under(rows: Rows, words: str) -> str:
        page = blocks(group(rows))
        start = next(i for i, block in enumerate(page) if block.startswith("#") and words in block)
        ends = (j for j in range(start + 1, len(page)) if page[j].startswith("#"))
        return "\n\n".join(page[start + 1 : next(ends, len(page))])

    return under


@pytest.fixture
def networks(rows: Rows) -> list[Networks]:
    return group(rows)
