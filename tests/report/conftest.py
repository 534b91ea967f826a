"""A synthetic results file with the shape of a real one, and its parts to take away or change."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import pytest

from fewstep.results import Result, read_results, write_results

OPTIMIZERS = ("even", "quadratic", "log_snr", "karras", "tangent", "elbo_dp")
EXCESS = {"even": 2.4, "quadratic": 2.7, "log_snr": 3.6, "karras": 4.4, "tangent": 3.0, "elbo_dp": 2.2}
DISTANCE = {"even": 9.1, "quadratic": 12.3, "log_snr": 17.7, "karras": 39.2, "tangent": 16.1, "elbo_dp": 47.9}
FULL = {"posterior": 2.0731, "beta": 2.1127, "optimal": 1.9012}
PENALTY = {"posterior": 2.6, "beta": 1.5, "optimal": 1.0}


def bits(optimizer: str, steps: int, variance: str) -> float:
    return FULL[variance] + PENALTY[variance] * EXCESS.get(optimizer, 2.2) / steps


def distance(optimizer: str, steps: int, seed: int) -> float:
    return 0.9 + DISTANCE.get(optimizer, 8.0) / steps**1.5 + 0.021 * math.sin(7.0 * seed + steps)


def likelihood_rows(of: dict, optimizers: Iterable[str], steps: Iterable[int]) -> list[Result]:
    common = of | {"metric": "bits_per_dim", "decoder": "additive", "split": "test", "n_images": 360}
    rows = []
    for variance in FULL:
        kind = common | {"variance": variance, "standard_error": 0.0213}
        rows += [
            Result(**kind, schedule_optimizer=o, steps=k, nfe=k, finetuned=False, value=bits(o, k, variance))
            for o in optimizers
            for k in steps
        ]
        rows.append(Result(**kind, schedule_optimizer="full", steps=1000, finetuned=False, value=FULL[variance]))
        tuned = bits("elbo_dp", 8, variance) - 0.0123
        rows.append(Result(**kind, schedule_optimizer="elbo_dp", steps=8, nfe=8, finetuned=True, value=tuned))
    return rows


def distance_rows(of: dict, metric: str, optimizers: Iterable[str], seeds: int) -> list[Result]:
    common = of | {"metric": metric, "split": "train", "n_images": 1000, "standard_error": 0.0534}
    rows = []
    for seed in range(seeds):
        for o in optimizers:
            kind = common | {"schedule_optimizer": o, "sample_seed": seed}
            for k in (4, 8, 16):
                value = distance(o, k, seed)
                rows.append(Result(**kind, solver="ddim", steps=k, nfe=k, finetuned=False, value=value))
            ancestral = 1.4 * distance(o, 8, seed)
            for tuned in (False, True)[: 1 + (o == "elbo_dp")]:
                rows.append(
                    Result(
                        **kind,
                        solver="ancestral",
                        variance="optimal",
                        steps=8,
                        nfe=8,
                        finetuned=tuned,
                        value=ancestral - 0.3 * tuned,
                    )
                )
        tuned = distance("elbo_dp", 8, seed) - 0.31
        kind = common | {"schedule_optimizer": "elbo_dp", "sample_seed": seed}
        rows.append(Result(**kind, solver="ddim", steps=8, nfe=8, finetuned=True, value=tuned))
    floor = common | {"schedule_optimizer": "data", "n_images": 360}
    return [*rows, Result(**floor, value=1.3071)]


def node_rows(of: dict, optimizers: Iterable[str], steps: Iterable[int]) -> list[Result]:
    rows = []
    for i, o in enumerate(optimizers):
        for variance in FULL if o == "elbo_dp" else (None,):
            shift = 0.07 * len(variance or "")
            for k in steps:
                for node in range(1, k + 1):
                    value = 5.5 - 14.7 * (node / k) ** (0.6 + 0.15 * i + shift)
                    kind = of | {"metric": "node_log_snr", "schedule_optimizer": o, "variance": variance}
                    rows.append(Result(**kind, steps=k, value=value))
    return rows


def other_rows(of: dict) -> list[Result]:
    rows = [
        Result(**of, metric="wiener_ratio_max", value=0.9312, n_images=128),
        Result(**of, metric="feature_accuracy", value=0.9778, standard_error=0.0078, n_images=360),
    ]
    errors = {"on": (0.032511, 0.031207), "off": (0.030118, 0.030874)}
    for where, before_and_after in errors.items():
        for tuned, value in zip((False, True), before_and_after, strict=True):
            kind = of | {"schedule_optimizer": "elbo_dp", "steps": 8, "split": "validation", "n_images": 143}
            metric = f"validation_error_{where}_schedule"
            rows.append(Result(**kind, metric=metric, finetuned=tuned, value=value, standard_error=0.0007))
    costs = {"pretrain": (75.2, 201_472), "features": (9.7, None), "statistics": (41.3, 128_000)}
    for stage, (seconds, calls) in costs.items():
        rows.append(Result(**of, metric=f"seconds_{stage}", value=seconds))
        if calls is not None:
            rows.append(Result(**of, metric=f"network_calls_{stage}", value=calls))
    for i, o in enumerate(OPTIMIZERS):
        rows.append(Result(**of, metric="seconds_search", schedule_optimizer=o, value=0.11 + 0.07 * i))
        rows.append(Result(**of, metric="seconds_evaluate", schedule_optimizer=o, value=7.3 + 0.4 * i))
        rows.append(Result(**of, metric="network_calls_evaluate", schedule_optimizer=o, value=72_000))
    rows.append(Result(**of, metric="seconds_finetune", schedule_optimizer="elbo_dp", value=21.4))
    return rows


@pytest.fixture(scope="session")
def synthetic_rows() -> Callable[..., list[Result]]:
    """Rows of a whole run; fewer optimizers, other K, more seeds, another metric or dataset on request."""

    def make(
        optimizers: tuple[str, ...] = OPTIMIZERS,
        steps: tuple[int, ...] = (4, 8, 16, 32),
        sample_seeds: int = 2,
        train_seeds: tuple[int, ...] = (0,),
        dataset: str = "digits",
        fid: str = "fid_digits",
    ) -> list[Result]:
        rows = []
        for train_seed in train_seeds:
            of = {"dataset": dataset, "process": "cosine", "train_seed": train_seed}
            rows += likelihood_rows(of, optimizers, steps)
            rows += distance_rows(of, fid, optimizers, sample_seeds)
            rows += node_rows(of, optimizers, steps)
            rows += other_rows(of)
        return rows

    return make


@pytest.fixture
def read_back(tmp_path: Path) -> Callable[[list[Result]], pd.DataFrame]:
    """Rows as a report gets them: written to a file and read."""

    def through_file(rows: list[Result]) -> pd.DataFrame:
        write_results(tmp_path / "results.csv", rows)
        return read_results(tmp_path / "results.csv")

    return through_file
