"""The five stages through the console entry: what lies in the outputs, and that a second run finds it there."""

import hashlib
import io
import itertools
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
from safetensors.torch import load_file

from fewstep.__main__ import main
from fewstep.report.rows import read_rows
from fewstep.results import COLUMNS, Result, read_results
from fewstep.sampling import ROWS
from fewstep.schedule import Schedule
from fewstep.weights import load_model
from tests.dashboard.wandb_file import written

TINY = [
    "process.T=40",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "model.backbone.channel_mult=[1]",
    "model.backbone.attention_resolutions=[]",
    "pretrain.iterations=20",
    "pretrain.batch_size=32",
    "pretrain.validate_every=10",
    "finetune.steps=4",
    "finetune.iterations=10",
    "finetune.batch_size=32",
    "finetune.validate_every=5",
    "statistics.images=16",
    "evaluation.images=20",
    "evaluation.pictured=3",
    "features.epochs=1",
    "features.width=4",
    "features.num_features=4",
]
STEPS, SAMPLED = (2, 4, 8), {"ddim": (2, 4), "ancestral": (4,)}
RULES = ("even", "quadratic", "log_snr", "karras", "tangent")
OPTIMIZERS = (*RULES, "elbo_dp")
VARIANCES = ("posterior", "beta", "optimal")
SEEDS = (0, 1)
WHOLE = [
    *TINY,
    "steps=[2,4,8]",
    "evaluation.samples=70",
    "evaluation.sample_steps={ddim:[2,4],ancestral:[4]}",
    "logger=wandb",
    "logger.mode=offline",
]


@dataclass(frozen=True)
class Outcome:
    """A run of the program: what it printed and how long it computed."""

    printed: str
    seconds: float


@contextmanager
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def fewstep(outputs: Path, *words: str) -> Outcome:
    """`fewstep outputs=… words` in this process."""
    printed = io.StringIO()
    with restored_logging(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fewstep", *words, f"outputs={outputs}"])
        patch.setenv("HYDRA_FULL_ERROR", "")
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(outputs.parent / "wandb"))
        begun = time.process_time()
        with redirect_stdout(printed), redirect_stderr(io.StringIO()):
            main()
        return Outcome(printed.getvalue(), time.process_time() - begun)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def first(outputs: Path) -> Outcome:
    return fewstep(outputs, *WHOLE)


@pytest.fixture(scope="module")
def report(first: Outcome, outputs: Path) -> Path:
    (folder,) = (outputs / "digits" / "report").iterdir()
    return folder


@pytest.fixture(scope="module")
def results(report: Path) -> pd.DataFrame:
    return read_results(report / "results.csv")


def state(outputs: Path) -> dict[str, tuple[int, str]]:
    """Every file's time of change and contents, but for Hydra's notes on the job itself."""
    files = [path for path in outputs.rglob("*") if path.is_file() and "jobs" not in path.parts]
    return {
        str(path.relative_to(outputs)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }


def values(rows: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """The distinct values of some columns, None where they are empty; fails where one comes twice."""
    found = [tuple(None if pd.isna(cell) else cell for cell in row) for row in rows[[*columns]].to_numpy(object)]
    assert len(set(found)) == len(found), "a number stands in the table twice"
    return sorted(found, key=repr)


def test_all_five_stages_end_within_a_minute_and_a_second_run_computes_nothing(
    first: Outcome, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seconds of the processor, which other programs on the machine do not lengthen.
    assert first.seconds < 60
    before = state(outputs)
    for work in ("fit", "predict", "test"):
        monkeypatch.delattr(pl.Trainer, work)
    second = fewstep(outputs, *WHOLE)
    assert state(outputs) == before
    assert second.printed == first.printed
    assert second.seconds < 15


def test_every_run_is_marked_complete_with_what_it_was_made_of(first: Outcome, outputs: Path) -> None:
    records = list((outputs / "digits").glob("*/*/run.json"))
    assert {path.parts[-3] for path in records} == {
        *("pretrain", "features", "statistics", "search", "finetune", "evaluate", "report")
    }
    assert not list(outputs.rglob("started.json"))
    for path in records:
        record = json.loads(path.read_text())
        assert record["config"]
        assert record["device"] == "cpu"
        for name, digest in record["outputs"].items():
            assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest


def test_results_are_tidy(results: pd.DataFrame, report: Path) -> None:
    assert (report / "results.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert results.value.notna().all()
    assert set(results.dataset) == {"digits"}
    assert set(results.train_seed.dropna()) == {0}
    assert set(results.process.dropna()) == {"cosine"}
    measured = results[results.metric.isin(["bits_per_dim", "fid_digits", "wiener_ratio_max", "feature_accuracy"])]
    assert (measured.standard_error > 0).all()
    assert (measured.n_images > 0).all()
    assert measured.split.notna().all()


def test_bits_per_dim_of_every_optimizer_variance_and_number_of_steps(results: pd.DataFrame) -> None:
    rows = results[results.metric == "bits_per_dim"]
    assert (rows.split == "test").all()
    assert (rows.n_images == 20).all()
    assert (rows.decoder == "additive").all()
    assert rows.solver.isna().all()
    assert (rows.nfe == rows.steps).all()
    untuned = itertools.product(OPTIMIZERS, VARIANCES, STEPS, [False])
    full = itertools.product(["full"], VARIANCES, [40], [False])
    expected = [*untuned, *full, ("elbo_dp", "optimal", 4, True)]
    assert values(rows, "schedule_optimizer", "variance", "steps", "finetuned") == sorted(expected, key=repr)


def test_frechet_distances_of_every_optimizer_solver_and_seed_and_their_floor(results: pd.DataFrame) -> None:
    rows = results[results.metric == "fid_digits"]
    floor, sampled = rows[rows.schedule_optimizer == "data"], rows[rows.schedule_optimizer != "data"]
    assert values(floor, "n_images", "split", "solver", "finetuned") == [(360, "train", None, None)]
    assert (sampled.n_images == 70).all()
    assert (sampled.split == "train").all()
    assert (sampled.nfe == sampled.steps).all()
    expected = [
        (name, solver, K, seed, "optimal" if solver == "ancestral" else None, tuned)
        for solver, steps in SAMPLED.items()
        for name, K, seed, tuned in [
            *itertools.product(OPTIMIZERS, steps, SEEDS, [False]),
            *itertools.product(["elbo_dp"], {4} & set(steps), SEEDS, [True]),
        ]
    ]
    columns = ("schedule_optimizer", "solver", "steps", "sample_seed", "variance", "finetuned")
    assert values(sampled, *columns) == sorted(expected, key=repr)


def test_rows_of_finetuning_health_and_cost(results: pd.DataFrame) -> None:
    errors = results[results.metric.str.startswith("validation_error")]
    assert values(errors, "metric", "schedule_optimizer", "steps", "finetuned", "split", "n_images") == [
        (f"validation_error_{where}_schedule", "elbo_dp", 4, tuned, "validation", 180)
        for where in ("off", "on")
        for tuned in (False, True)
    ]
    assert len(results[results.metric == "wiener_ratio_max"]) == 1
    accuracy = results[results.metric == "feature_accuracy"]
    assert values(accuracy, "n_images", "split") == [(360, "test")]
    seconds = results[results.metric.str.startswith("seconds_")]
    each = {"seconds_search": OPTIMIZERS, "seconds_evaluate": OPTIMIZERS, "seconds_finetune": ("elbo_dp",)}
    for metric, names in each.items():
        assert {*seconds[seconds.metric == metric].schedule_optimizer.dropna()} == {*names}
    for stage in ("pretrain", "features", "statistics"):
        assert values(seconds[seconds.metric == f"seconds_{stage}"], "schedule_optimizer") == [(None,)]


def test_network_calls_are_those_that_were_made(results: pd.DataFrame) -> None:
    calls = results[results.metric.str.startswith("network_calls_")]
    calls = calls.set_index(["metric", "schedule_optimizer"]).value.rename(index={float("nan"): ""})
    one = calls[calls.index.get_level_values(1).isna()].droplevel(1)
    assert one["network_calls_pretrain"] == 20 * 32
    assert one["network_calls_statistics"] == 40 * 16
    # Two seeds of 70 samples, the last block of each padded, and 3 pictured samples in a block of their own.
    rows = 2 * -(-70 // ROWS) * ROWS + ROWS
    sampling = sum(K * rows for steps in SAMPLED.values() for K in steps)
    assert calls["network_calls_evaluate", "even"] == sampling
    assert calls["network_calls_finetune", "elbo_dp"] == 10 * 32


def test_nodes_are_the_schedules(results: pd.DataFrame, report: Path) -> None:
    nodes = results[(results.metric == "node_log_snr") & (results.steps == 8)]
    for name in OPTIMIZERS:
        rows = nodes[(nodes.schedule_optimizer == name) & ~(nodes.finetuned.fillna(False))]
        rows = rows[rows.variance.isin(["optimal"]) | rows.variance.isna()]
        schedule = Schedule.load(report / "schedules" / f"{name}_k008.json")
        assert sorted(rows.value) == pytest.approx(sorted(schedule.process.log_snr(schedule.times[1:]).tolist()))


def test_a_schedule_file_for_every_optimizer_and_number_of_steps(report: Path, outputs: Path) -> None:
    (weights,) = (outputs / "digits" / "pretrain").iterdir()
    process = load_model(weights).process
    files = {path.name: Schedule.load(path) for path in (report / "schedules").iterdir()}
    assert files.keys() == {f"{name}_k{K:03d}.json" for name in OPTIMIZERS for K in STEPS}
    for name, schedule in files.items():
        assert schedule.steps == int(re.findall(r"\d+", name)[-1])
        assert schedule.process == process
        assert schedule.provenance["schedule_optimizer"] == name.rpartition("_k")[0]
        assert schedule.provenance.get("split") == ("train" if name.startswith("elbo") else None)


def test_the_report_is_one_page_that_needs_nothing_else(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>]+)", page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "@import" not in page
    assert "url(" not in page
    for name in OPTIMIZERS:
        assert name in page
    pictures = list(report.glob("*.png"))
    assert {"bits_per_dim.png", "fid_digits.png", "nodes.png", "samples_1.png"} <= {path.name for path in pictures}
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in pictures)


def test_the_terminal_shows_every_optimizer_and_where_the_report_lies(first: Outcome, report: Path) -> None:
    lines = first.printed.splitlines()
    for name in (*OPTIMIZERS, "elbo_dp (tuned)"):
        assert any(line.startswith(f"{name} ") for line in lines)
    assert lines[-1] == f"The report: {report / 'report.html'}"


def test_pictured_samples_are_on_grey_levels(first: Outcome, outputs: Path) -> None:
    found = {path.parts[-3]: path for path in outputs.glob("digits/evaluate/*/samples/ddim_k004.safetensors")}
    assert len(found) == len(OPTIMIZERS) + 1
    for path in found.values():
        images = load_file(path)["images"]
        assert images.shape == (3, 1, 8, 8)
        levels = (images + 1) * 8
        assert (levels - levels.round()).abs().max() < 1e-12


def test_the_dashboard_holds_every_run_and_no_number_that_the_report_does_not_have(
    results: pd.DataFrame, outputs: Path
) -> None:
    (shown,) = written(outputs)
    folders = {path.parent for path in (outputs / "digits").glob("*/*/run.json")}
    assert {*shown.artifacts} == {f"{folder.parent.name}-{folder.name}" for folder in folders}
    assert [Result(**row) for row in shown.table("results")] == read_rows(results)
    by_name = results[(results.metric == "fid_digits") & (results.solver == "ddim")].groupby(
        ["schedule_optimizer", "finetuned", "nfe"]
    )
    for (name, tuned, calls), rows in by_name:
        curve = dict(shown.curve(f"fid_digits/ddim/{name}{'_tuned' if tuned else ''}", "nfe"))
        assert curve[calls] == pytest.approx(rows.value.mean(), rel=1e-12)
    pictures = {key for row in shown.history for key in row if re.fullmatch(r"samples/.*\.path", key)}
    assert len(pictures) == len(list(outputs.glob("digits/evaluate/*/samples/*.safetensors")))
    iterations = [iteration for iteration, _ in shown.curve("pretrain/cosine/train/loss", "iterations")]
    assert iterations == [19]
