"""The evaluation stage: rows of the schedules it is given, and no bit of them depends on the batch size."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.artefacts.features import Features
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.files import JudgingFiles
from fewstep.judging.likelihood import Likelihood
from fewstep.judging.settings import Evaluation, Judge
from fewstep.process import Process
from fewstep.record import read_record
from fewstep.results import read_results
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.stages.evaluate import Subject, evaluate, evaluate_reference, samples_file
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model
from tests.quiet_trainer import quiet_trainer

T = 12
PROCESS = Process.cosine(T, 1 / 16)
LABELS = {
    "dataset": "digits",
    "process": "cosine",
    "schedule_optimizer": "mine",
    "train_seed": 0,
    "finetuned": False,
}
PATHS = {2: [0, 4, T], 3: [0, 2, 6, T]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, save_small_model: Callable[..., Path]) -> Path:
    return save_small_model(tmp_path_factory.mktemp("weights"), PROCESS)


@pytest.fixture(scope="module")
def statistics(
    weights: Path, tmp_path_factory: pytest.TempPathFactory, measure: Callable[..., DenoisingError]
) -> tuple[Path, Path]:
    """Of training images, and of test images with the variances of those."""
    folder, denoiser = tmp_path_factory.mktemp("statistics"), load_model(weights)
    fitted = measure(Digits().images("train")[:8], denoiser)
    fitted.save(folder / "fitted")
    measure(Digits().images("test")[:6], denoiser, split="test", fitted=fitted).save(folder / "judged")
    return folder / "fitted", folder / "judged"


def judge(features: Features, **settings: Any) -> Judge:
    few = {"samples": ROWS + 5, "sample_seeds": [0, 3], "sample_steps": {"ancestral": [3]}, "pictured": 2}
    return Judge(
        settings=Evaluation(**few | settings),
        solvers={"ddim": Ddim(), "ancestral": Ancestral("optimal")},
        features=features,
        shape=(1, 8, 8),
        levels=17,
        trainer=lambda description: quiet_trainer(),
    )


@pytest.fixture
def run_evaluation(
    weights: Path, statistics: tuple[Path, Path], features: Features, tmp_path: Path
) -> Callable[..., Path]:
    def make(
        name: str = "run",
        variances: Sequence[str] = ("posterior", "optimal"),
        depends_on_variance: bool = False,
        provenance: Mapping[str, Any] | None = None,
        process: Process = PROCESS,
        fine: Path | None = None,
        **settings: Any,
    ) -> Path:
        files = {}
        for K, path in PATHS.items():
            files[K] = tmp_path / f"{name}_{K}.json"
            Schedule.on_grid(path, process, provenance).save(files[K])
        subject = Subject(weights, dict.fromkeys(variances, files), "optimal", depends_on_variance, LABELS)
        judging = {"additive": JudgingFiles(statistics[1])}
        fitted, judged_by = {KIND: statistics[0]}, judge(features, **settings)
        evaluate(tmp_path / name, {}, subject, judged_by, fitted, judging, seed=0, fine_step_outputs=fine)
        return tmp_path / name

    return make


def test_no_bit_of_any_result_depends_on_the_batch_size(run_evaluation: Callable[..., Path]) -> None:
    folders = [run_evaluation(f"batches of {size}", batch_size=size) for size in (17, ROWS, 10_000)]
    written = [(folder / "results.csv").read_bytes() for folder in folders]
    assert written[0] == written[1] == written[2]
    for path in (folders[0] / "samples").iterdir():
        others = [(folder / "samples" / path.name).read_bytes() for folder in folders]
        assert others == [path.read_bytes()] * 3


def test_rows_of_every_schedule_variance_solver_and_seed(
    run_evaluation: Callable[..., Path], statistics: tuple[Path, Path]
) -> None:
    rows = read_results(run_evaluation() / "results.csv")
    bits = rows[rows.metric == "bits_per_dim"].set_index(["variance", "steps"])
    assert {*bits.index} == {(variance, K) for variance in ("posterior", "optimal") for K in PATHS}
    for (variance, K), row in bits.iterrows():
        schedule = Schedule.on_grid(PATHS[K], PROCESS)
        expected = Likelihood(variance, "additive", LABELS).row(DenoisingError.load(statistics[1]), schedule)
        assert (row.value, row.standard_error) == (expected.value, expected.standard_error)
    fid = rows[rows.metric == "fid_digits"]
    # ddim is not named in sample_steps, so it samples at every K; ancestral at 3 alone.
    found = {*zip(fid.solver, fid.steps, fid.sample_seed, fid.nfe, strict=True)}
    assert found == {("ddim", K, seed, K) for K in (2, 3) for seed in (0, 3)} | {
        ("ancestral", 3, seed, 3) for seed in (0, 3)
    }
    assert {*fid[fid.solver == "ancestral"].variance} == {"optimal"}
    assert fid[fid.solver == "ddim"].variance.isna().all()


@pytest.mark.parametrize("depends_on_variance", [False, True])
def test_nodes_are_stated_once_or_for_each_variance(
    depends_on_variance: bool, run_evaluation: Callable[..., Path]
) -> None:
    rows = read_results(
        run_evaluation(depends_on_variance=depends_on_variance, sample_steps={"ddim": []}) / "results.csv"
    )
    nodes = rows[rows.metric == "node_log_snr"]
    kinds = [kind if isinstance(kind, str) else None for kind in nodes.variance.unique()]
    assert kinds == (["posterior", "optimal"] if depends_on_variance else [None])
    for K, path in PATHS.items():
        of_one = nodes[(nodes.steps == K) & (nodes.variance.isna() | (nodes.variance == "optimal"))]
        assert of_one.value.tolist() == pytest.approx(PROCESS.log_snr(PROCESS.grid[path[1:]]).tolist(), rel=1e-12)


def test_pictured_samples_are_those_of_the_first_seed(
    run_evaluation: Callable[..., Path], weights: Path, statistics: tuple[Path, Path]
) -> None:
    folder = run_evaluation()
    solver = Ancestral("optimal")
    solver.fit({KIND: DenoisingError.load(statistics[0])})
    images = sample(load_model(weights), solver, Schedule.on_grid(PATHS[3], PROCESS), range(2), 0, (1, 8, 8))
    stored = load_file(samples_file(folder, "ancestral", 3))["images"]
    assert torch.equal(stored, to_grey_levels(images, 17))
    assert {path.name for path in (folder / "samples").iterdir()} == {
        *("ddim_k002.safetensors", "ddim_k003.safetensors", "ancestral_k003.safetensors")
    }


def test_the_first_seeds_samples_are_compared_with_many_steps_where_no_noise_is_added(
    run_evaluation: Callable[..., Path], weights: Path, tmp_path: Path
) -> None:
    images = sample(load_model(weights), Ddim(), Schedule(PROCESS.grid, PROCESS), range(9), 0, (1, 8, 8))
    save_file({"images": images}, tmp_path / "fine.safetensors")
    rows = read_results(run_evaluation(fine=tmp_path / "fine.safetensors") / "results.csv")
    found = rows[rows.metric.isin(["distance_pixels", "distance_features"])]
    keys = {*zip(found.metric, found.solver, found.steps, found.sample_seed, found.n_images, strict=True)}
    assert keys == {(f"distance_{kind}", "ddim", K, 0, 9) for kind in ("pixels", "features") for K in (2, 3)}


def test_network_calls_are_those_of_the_samples(run_evaluation: Callable[..., Path]) -> None:
    """Two blocks for each of two seeds, and one for the pictures; ddim at 2 and 3 steps, ancestral at 3."""
    assert read_record(run_evaluation())["network_calls"] == (2 + 3 + 3) * (2 * 2 + 1) * ROWS


def test_a_finished_evaluation_is_skipped(
    run_evaluation: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_evaluation()
    changed = (folder / "results.csv").stat().st_mtime_ns
    monkeypatch.setattr(Denoiser, "forward", None)
    assert run_evaluation() == folder
    assert (folder / "results.csv").stat().st_mtime_ns == changed


def test_a_schedule_searched_on_the_judging_split_is_refused(
    run_evaluation: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="searched or fitted on the split 'test'"):
        run_evaluation(provenance={"split": "test"})
    assert not (tmp_path / "run" / "results.csv").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_schedule_of_another_process_is_refused(run_evaluation: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"made for Process\.cosine\(T=12, smallest_noise_level=0\.01\)"):
        run_evaluation(process=Process.cosine(T, 0.01))
    assert not (tmp_path / "run" / "results.csv").exists()


@pytest.fixture
def reference(statistics: tuple[Path, Path], features: Features, tmp_path: Path) -> pd.DataFrame:
    labels = LABELS | {"schedule_optimizer": None}
    judging = {"additive": JudgingFiles(statistics[1])}
    evaluate_reference(tmp_path / "run", {}, judge(features), Digits(), statistics[0], judging, labels, seed=0)
    return read_results(tmp_path / "run" / "results.csv")


def test_the_reference_holds_the_full_grid_the_floor_and_the_health(
    reference: pd.DataFrame, statistics: tuple[Path, Path]
) -> None:
    full = reference[reference.schedule_optimizer == "full"]
    assert {*zip(full.metric, full.variance, full.steps, strict=True)} == {
        ("bits_per_dim", variance, T) for variance in ("posterior", "beta", "optimal")
    }
    everything = Schedule(PROCESS.grid, PROCESS)
    for _, row in full.iterrows():
        expected = Likelihood(row.variance, "additive", LABELS).row(DenoisingError.load(statistics[1]), everything)
        assert row.value == expected.value
    (floor,) = (row for _, row in reference[reference.schedule_optimizer == "data"].iterrows())
    assert (floor.metric, floor.n_images) == ("fid_digits", 360)
    rest = reference[reference.schedule_optimizer.isna()].set_index("metric")
    assert {*rest.index} == {"wiener_ratio_max", "feature_accuracy", "reference_images"}
    assert rest.split["wiener_ratio_max"] == "train"
    assert (rest.value["reference_images"], rest.split["reference_images"]) == (1257, "train")
    accuracy = rest.loc["feature_accuracy"]
    assert (accuracy.value, accuracy.n_images) == (0.25, 360)
    assert accuracy.standard_error == pytest.approx((0.25 * 0.75 / 360) ** 0.5)
