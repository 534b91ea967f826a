"""The search stage: one file per K, with how it was found, of the model's own process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.objectives.base import Objective, Statistics
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.record import read_record
from fewstep.results import read_results
from fewstep.schedule import Schedule
from fewstep.search.base import Search
from fewstep.search.dp import Dp, optimal_paths
from fewstep.search.even import Even
from fewstep.search.gradient import Gradient
from fewstep.stages.search import schedule_file, search
from fewstep.statistics import samples, validation_samples
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.weights import load_model

T = 12
PROCESS = Process.cosine(T, 1 / 16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, save_small_model: Callable[..., Path]) -> Path:
    return save_small_model(tmp_path_factory.mktemp("weights"), PROCESS)


@pytest.fixture(scope="module")
def statistics(
    weights: Path, tmp_path_factory: pytest.TempPathFactory, measure: Callable[..., DenoisingError]
) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "statistics.safetensors"
    measure(Digits().images("train")[:8], load_model(weights)).save(path)
    return path


@pytest.fixture
def run_search(weights: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str,
        objective: Objective | None,
        find: Search,
        files: Mapping[str, tuple[Path, Callable[[Path], Any]]],
        steps: Sequence[int] = (1, 3, T),
    ) -> Path:
        provenance = {"search": find.name, "split": "train"}
        folder = tmp_path / "run"
        search(folder, {"steps": list(steps)}, name, provenance, objective, find, files, weights, steps, 0)
        return folder

    return make


def test_the_files_hold_the_optimal_paths_of_the_statistics(
    run_search: Callable[..., Path], statistics: Path
) -> None:
    objective = ElboObjective("beta")
    folder = run_search("elbo_dp", objective, Dp(), {KIND: (statistics, DenoisingError.load)})
    table = objective.edge_costs({KIND: DenoisingError.load(statistics)})
    names = {path.name for path in (folder / "schedules").iterdir()}
    assert names == {"elbo_dp_k001.json", "elbo_dp_k003.json", "elbo_dp_k012.json"}
    for K, path in optimal_paths(table.costs, [1, 3, T]).items():
        schedule = Schedule.load(schedule_file(folder, "elbo_dp", K))
        assert schedule.indices == path
        assert schedule.process == PROCESS
        assert schedule.provenance == {"search": "dp", "split": "train"}


def test_a_search_calls_no_network(run_search: Callable[..., Path], statistics: Path) -> None:
    folder = run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (statistics, DenoisingError.load)})
    assert read_record(folder)["network_calls"] == 0


class Reporting(Even):
    """The even rule, but it says something of itself."""

    def __call__(
        self, objective: Objective | None, statistics: Statistics, denoiser: Denoiser, steps: Sequence[int]
    ) -> dict[int, Schedule]:
        found = super().__call__(objective, statistics, denoiser, steps)
        measured = {"value": 0.25, "standard_error": 0.5, "n_images": 7, "split": "validation"}
        return {
            K: Schedule(one.times, one.process, {"found": {"gap": measured | {"value": K / 4}, "note": "so"}})
            for K, one in found.items()
        }


def test_what_a_search_found_is_in_the_files_and_what_it_measured_in_rows(weights: Path, tmp_path: Path) -> None:
    labels = {"dataset": "digits", "train_seed": 3}
    search(tmp_path, {}, "mine", {"search": "even"}, None, Reporting(), {}, weights, [2, 5], 0, labels)
    found = Schedule.load(schedule_file(tmp_path, "mine", 5)).provenance["found"]
    assert found["note"] == "so"
    assert found["gap"]["value"] == 1.25
    rows = read_results(tmp_path / "results.csv")
    assert rows["metric"].tolist() == ["gap", "gap"]
    assert rows["steps"].tolist() == [2, 5]
    assert rows["value"].tolist() == [0.5, 1.25]
    for column, value in {"standard_error": 0.5, "n_images": 7, "split": "validation", "train_seed": 3}.items():
        assert rows[column].tolist() == [value] * 2
    assert rows["schedule_optimizer"].tolist() == ["mine"] * 2
    assert rows["dataset"].tolist() == ["digits"] * 2
    assert "results.csv" in read_record(tmp_path)["outputs"]


def test_a_search_that_measures_nothing_writes_no_rows(run_search: Callable[..., Path]) -> None:
    assert not (run_search("even", None, Even(), {}) / "results.csv").exists()


def test_a_gradient_search_counts_its_calls_and_writes_its_gap(
    run_search: Callable[..., Path], statistics: Path, tmp_path: Path
) -> None:
    files: dict[str, Any] = {KIND: (statistics, DenoisingError.load)}
    for module, split in ((samples, "train"), (validation_samples, "validation")):
        path = tmp_path / module.KIND
        images = Digits().images(split)[:8]
        estimator = module.Estimator(
            images, None, split=split, levels=17, indices=range(1, T + 1), seed=0, batch_size=8
        )
        estimator.collect(PROCESS, [None]).save(path)
        files[module.KIND] = (path, module.load)
    folder = run_search("elbo_gradient", ElboObjective("beta"), Gradient(iterations=2), files, (1, 3, T))
    assert read_record(folder)["network_calls"] > 0
    rows = read_results(folder / "results.csv")
    assert rows[["metric", "steps", "split", "n_images"]].values.tolist() == [
        ["optimality_gap", 3, "validation", 8]
    ]
    facts = Schedule.load(schedule_file(folder, "elbo_gradient", 3)).provenance["found"]
    assert rows["value"].item() == facts["optimality_gap"]["value"]


def test_a_finished_search_reads_nothing(run_search: Callable[..., Path], statistics: Path) -> None:
    def unread(path: Path) -> None:
        raise AssertionError("read")

    with pytest.raises(AssertionError, match="read"):
        run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (statistics, unread)})
    run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (statistics, DenoisingError.load)})
    run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (statistics, unread)})


@pytest.mark.parametrize("steps", [(0,), (-2,), (4, 4), (T + 1,), ()])
def test_wrong_numbers_of_steps_leave_no_file(
    steps: tuple[int, ...], run_search: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError):
        run_search("even", None, Even(), {}, steps)
    assert not (tmp_path / "run" / "schedules").exists()
    assert not (tmp_path / "run" / "run.json").exists()


def test_other_statistics_are_another_input(
    run_search: Callable[..., Path],
    statistics: Path,
    tmp_path: Path,
    weights: Path,
    measure: Callable[..., DenoisingError],
) -> None:
    run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (statistics, DenoisingError.load)})
    other = tmp_path / "other.safetensors"
    measure(Digits().images("train")[:8], load_model(weights), seed=1).save(other)
    with pytest.raises(UserError, match=r"'denoising_error' .* is not the one that the run in"):
        run_search("elbo_dp", ElboObjective(), Dp(), {KIND: (other, DenoisingError.load)})


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'model' is missing: there is no file .*model\.yaml"):
        search(tmp_path / "run", {}, "even", {}, None, Even(), {}, tmp_path, [2], 0)
    assert not (tmp_path / "run").exists()
