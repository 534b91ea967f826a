"""The search stage: one file per K, with how it was found, of the model's own process."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.objectives.base import Objective
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.record import read_record
from fewstep.schedule import Schedule
from fewstep.search.base import Search
from fewstep.search.dp import Dp, optimal_paths
from fewstep.search.even import Even
from fewstep.stages.search import schedule_file, search
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
