"""A study in which every finding of the papers shows, and its numbers to turn."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fewstep.report.part import Part
from fewstep.report.study.page import blocks
from fewstep.report.study.parts import Study
from fewstep.results import Result

Parts = dict[str, list[Result]]
EXCESS = {"elbo_dp": 2.0, "mse_reweighted_dp": 2.2, "quadratic": 2.5, "even": 3.0}
DISTANCE = {"quadratic": 3.0, "even": 4.0, "mse_reweighted_dp": 5.0, "elbo_dp": 6.0}
VARIANCE = {"posterior": 0.10, "beta": 0.15, "optimal": 0.02, "learned": 0.0}
LOSS = {"simple": 2.2, "hybrid": 2.1, "vlb": 2.0}
STEPS = (4, 8, 32)
NOISE = (-0.02, 0.01, 0.0, 0.03, -0.02)  # of the seeds, all rows alike; each row adds a little of its own


def likelihood(of: dict, optimizers: list[str], variances: list[str], full: float) -> Iterator[Result]:
    kind = of | {"metric": "bits_per_dim", "decoder": "additive", "split": "test", "n_images": 360}
    for v in variances:
        here = kind | {"variance": v, "standard_error": 0.02, "finetuned": False}
        yield Result(**here, schedule_optimizer="full", steps=1000, value=full + VARIANCE[v])
        for o in optimizers:
            for k in STEPS:
                yield Result(**here, schedule_optimizer=o, steps=k, value=full + VARIANCE[v] + EXCESS[o] / k)


def distances(of: dict, optimizers: list[str], steps: tuple[int, ...], seeds: int) -> Iterator[Result]:
    kind = of | {"metric": "fid_digits", "solver": "ddim", "split": "train", "n_images": 2000}
    for i, o in enumerate(optimizers):
        for k in steps:
            for seed in range(seeds):
                value = 1 + DISTANCE[o] / k + NOISE[seed] + 1e-3 * NOISE[(seed + i) % 5]
                here = kind | {"schedule_optimizer": o, "finetuned": False, "standard_error": 0.1}
                yield Result(**here, steps=k, nfe=k, sample_seed=seed, value=value)
    floor = {"schedule_optimizer": "data", "n_images": 360, "sample_seed": None, "solver": None}
    yield Result(**kind | floor, value=0.9, standard_error=0.05)


def seconds(process: str, loss: str) -> float:
    return 100 * LOSS[loss] + 2 * (process == "linear")


def network(process: str, loss: str, seeds: int = 5) -> list[Result]:
    of = {"dataset": "digits", "process": process, "train_seed": 0}
    variances = ["posterior", "beta", "optimal", *(["learned"] if loss != "simple" else [])]
    near = {"metric": "steps_within_0.1", "schedule_optimizer": "elbo_dp", "n_images": 128, "split": "train"}
    return [
        *likelihood(of, list(EXCESS), variances, LOSS[loss]),
        *distances(of, list(EXCESS), (4, 8), seeds),
        *(Result(**of | near, variance=v, value=20 + i) for i, v in enumerate(variances)),
        Result(**of, metric="wiener_ratio_max", value=0.93, standard_error=0.01, n_images=128),
        Result(**of, metric="feature_accuracy", value=0.98, standard_error=0.01, n_images=360),
        Result(**of, metric="seconds_pretrain", value=seconds(process, loss)),
    ]


def ablation(added: float) -> list[Result]:
    of = {"dataset": "digits", "process": "cosine", "train_seed": 0}
    rows = [
        replace(row, value=row.value + (added if row.schedule_optimizer == "elbo_dp" else 0))
        for row in likelihood(of, ["quadratic", "elbo_dp"], ["posterior", "beta", "optimal"], LOSS["simple"])
    ]
    shared = Result(**of, metric="seconds_pretrain", value=seconds("cosine", "simple"))
    return [*rows, shared]


def tuned() -> list[Result]:
    of = {"dataset": "digits", "process": "cosine", "train_seed": 0}
    rows = [
        *likelihood(of, ["even", "elbo_dp"], ["optimal"], LOSS["simple"]),
        *distances(of, ["even", "elbo_dp"], (4,), 5),
    ]
    kind = of | {"steps": 4, "variance": "optimal", "decoder": "additive", "split": "test", "n_images": 360}
    for o, change in {"elbo_dp": -0.030, "even": 0.001}.items():
        here = kind | {"schedule_optimizer": o, "finetuned": True}
        before = LOSS["simple"] + VARIANCE["optimal"] + EXCESS[o] / 4
        rows.append(Result(**here, metric="bits_per_dim", value=before + change, standard_error=0.02))
        rows.append(Result(**here, metric="bits_per_dim_change", value=change, standard_error=0.01))
    of_seeds = [
        row for row in rows if row.metric == "fid_digits" and row.schedule_optimizer in ("even", "elbo_dp")
    ]
    for i, row in enumerate(of_seeds):
        better = 0.5 if row.schedule_optimizer == "even" else 0.0
        rows.append(replace(row, finetuned=True, value=row.value - better + (-1) ** i * 0.01 * NOISE[i % 5]))
    return rows


@pytest.fixture
def parts() -> Parts:
    """Every part: networks, fine-tuning, statistics."""
    networks = {f"{p}_{loss}": network(p, loss) for p in ("cosine", "linear") for loss in LOSS}
    images = {f"images_{n:04d}": ablation(0.4 / n - 0.4 / 1024) for n in (8, 16, 32, 64, 128, 256, 512, 1024)}
    fresh = {f"fresh_{n:04d}": ablation(0.4 / n + 0.02) for n in (32, 128, 512)}
    counts = {"timesteps": 47, "timesteps_all": 1000, "images": 128, "calls": 6_000, "calls_all": 128_000}
    of = {"dataset": "digits", "process": "cosine", "train_seed": 0}
    auto = [*ablation(0.004), *(Result(**of, metric=f"statistics_{name}", value=n) for name, n in counts.items())]
    auto.append(Result(**of, metric="statistics_regret_bound", value=0.0091))
    return networks | images | fresh | {"auto": auto, "finetune": tuned()}


@pytest.fixture
def study_of() -> Callable[[Parts], Study]:
    """The study of some parts."""
    return lambda parts: Study([Part(name, rows) for name, rows in parts.items()])


@pytest.fixture
def changed() -> Callable[..., Parts]:
    """The parts with `by` added to every value that fits; at least one must."""

    def change(parts: Parts, by: float, only: str = "", **of: object) -> Parts:
        turned = {
            name: [
                replace(row, value=row.value + by)
                if name.startswith(only) and all(getattr(row, key) == value for key, value in of.items())
                else row
                for row in rows
            ]
            for name, rows in parts.items()
        }
        assert turned != parts
        return turned

    return change


@pytest.fixture
def section(study_of: Callable[[Parts], Study]) -> Callable[[Parts, str], str]:
    """A section of the page: what stands between a heading that contains some words and the next of its level."""

    def under(parts: Parts, words: str) -> str:
        page = blocks(study_of(parts))
        start = next(i for i, block in enumerate(page) if block.startswith("#") and words in block)
        level = page[start].partition(" ")[0]
        ends = (j for j in range(start + 1, len(page)) if page[j].startswith("#") and page[j].split()[0] <= level)
        return "\n\n".join(page[start + 1 : next(ends, len(page))])

    return under
