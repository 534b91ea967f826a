"""Who meets whom in a league, what it costs, and that its tables say it, over runs in the pipeline's format."""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from fewstep.report.league.leagues import leagues, told_apart
from fewstep.report.runs import measured_runs
from fewstep.stages.overview import Reporting, write_overview
from tests.report.written_runs import WrittenRuns, changed, composed

OPTIMIZERS = ("even", "tangent", "elbo_dp", "discretization_dp")
LEVEL = {"even": 8.0, "tangent": 9.0, "elbo_dp": 9.001, "discretization_dp": 4.0}


@cache
def config() -> dict[str, Any]:
    words = f"experiment=digits_league 'schedule_optimizer=[{','.join(OPTIMIZERS)}]' 'steps=[4,8]'"
    return composed(words)


def value(metric: str, optimizer: str, K: int, **of: Any) -> float:
    """Distances with a noise that all share and one of their own; bits/dim the other way round."""
    if metric == "bits_per_dim":
        return 2.0 + 1 / LEVEL.get(optimizer, 10.0)
    own = 0.01 * ((OPTIMIZERS.index(optimizer) * of["seed"]) % 5)
    return LEVEL[optimizer] * 4 / K + 3 * (of["seed"] % 3) + own


def rows(outputs: Path, heading: str) -> dict[str, dict[str, str]]:
    """Schedule optimizer → line of the table under a heading."""
    with (outputs / "report" / "league" / "league.csv").open(encoding="utf-8") as file:
        return {line["schedule optimizer"]: line for line in csv.DictReader(file) if line["table"] == heading}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs")
    WrittenRuns(outputs, config(), value).write(*OPTIMIZERS)
    write_overview(outputs, Reporting("league"), [*OPTIMIZERS, "karras"])
    return outputs


TITLE = "digits_league: digits, cosine process"


def test_places_differences_and_ties(played: Path) -> None:
    found = rows(played, f"{TITLE}: fid_digits, ddim")
    assert [*found][:2] == ["discretization_dp", "even"]
    for K in (4, 8):
        place = {name: line[f"K = {K}: place"] for name, line in found.items()}
        assert place == {"discretization_dp": "1", "even": "2", "tangent": "3–4", "elbo_dp": "3–4"}
        assert found["even"][f"K = {K}: − even"] == ""
        expected = [
            value("fid_digits", "discretization_dp", K, seed=seed) - value("fid_digits", "even", K, seed=seed)
            for seed in range(5)
        ]
        assert float(found["discretization_dp"][f"K = {K}: − even"]) == pytest.approx(sum(expected) / 5, abs=0.005)
    bits = rows(played, f"{TITLE}: bits/dim (optimal)")
    assert float(bits["even"]["K = 4"]) == pytest.approx(2.125, abs=5e-4)
    assert bits["even"]["K = 4 ±"] == "0.004"


def test_costs_count_the_statistics_and_fixed_rules_cost_no_call(played: Path) -> None:
    places = rows(played, TITLE)
    calls = {name: line["network calls"] for name, line in places.items()}
    assert calls == {
        "even": "10",
        "tangent": "10",
        "elbo_dp": "1010",
        "discretization_dp": "1010",
        "karras": "not run",
    }
    assert places["karras"]["fid_digits, ddim, K = 4"] == "not run"
    assert places["even"]["fid_digits, ddim, K = 4"] == "2"


def test_its_picture_is_a_picture_and_stands_on_the_page(played: Path) -> None:
    folder = played / "report" / "league"
    assert "](league.png)" in (folder / "league.md").read_text(encoding="utf-8")
    assert matplotlib.image.imread(folder / "league.png").ndim == 3


def test_settings_of_one_schedule_optimizer_are_contenders_of_their_own(tmp_path: Path) -> None:
    WrittenRuns(tmp_path, config(), value).write(*OPTIMIZERS)
    power = "schedule_optimizer.discretization_dp.objective.power"
    other = WrittenRuns(tmp_path, changed(config(), {power: 2.0}), value)
    other._searched = lambda name: f"{name}-other"  # type: ignore[method-assign]
    other._search("discretization_dp")
    other._evaluate("discretization_dp", "discretization_dp", other.weights, label="other")
    (league,) = leagues(measured_runs(tmp_path))
    searched = {"discretization_dp (power=1.0)", "discretization_dp (power=2.0)"}
    assert {*league.searches} == {"even", "tangent", "elbo_dp"} | searched


def test_a_solver_with_other_settings_is_another(tmp_path: Path) -> None:
    noisy = changed(config(), {"solver.ddim.eta": 1.0, "schedule_optimizer": {}})
    WrittenRuns(tmp_path, config(), value).write("even", "elbo_dp")
    written = WrittenRuns(tmp_path, noisy, lambda *_, **of: 99.0)
    for name in ("even", "elbo_dp"):
        written._evaluate(name, name, written.weights, label=f"{name}-noisy")
    (league,) = leagues(measured_runs(tmp_path))
    distances = {panel.solver: panel.estimates["even"][4].mean for panel in league.part.distances}
    assert {*distances} == {"ancestral (optimal)", "ddim (eta=0.0)", "ddim (eta=1.0)"}
    assert distances["ddim (eta=1.0)"] == 99.0
    assert distances["ddim (eta=0.0)"] < 20


def test_other_networks_and_other_judges_play_elsewhere_and_training_seeds_do_not(tmp_path: Path) -> None:
    for settings in (
        {},
        {"seed": 1},
        {"name": "longer", "pretrain.iterations": 3000},
        {"name": "judged_longer", "evaluation.samples": 2000},
    ):
        WrittenRuns(tmp_path, changed(config(), settings), value).write("even", "elbo_dp")
    found = leagues(measured_runs(tmp_path))
    assert sorted(league.title.partition(":")[0] for league in found) == [
        "digits_league",
        "judged_longer",
        "longer",
    ]
    seeds = {league.title.partition(":")[0]: {row.train_seed for row in league.part.rows} for league in found}
    assert seeds["digits_league"] == {0, 1}
    assert [league.title for league in leagues(measured_runs(tmp_path, ["longer"]))] == [
        "longer: digits, cosine process"
    ]


def test_leagues_of_one_experiment_are_told_apart() -> None:
    settings = [{"a": {"b": 1, "c": [1, 2]}, "d": "x"}, {"a": {"b": 2, "c": [1, 2]}, "d": "x"}, {"a": {"b": 2}}]
    assert told_apart(settings) == ["b=1, 0=1, 1=2, d=x", "b=2, 0=1, 1=2, d=x", "b=2, 0=unset, 1=unset, d=unset"]
    assert told_apart(settings[:2]) == ["b=1", "b=2"]
    assert told_apart(settings[:1]) == [""]


def test_without_runs_there_is_no_league_and_the_page_says_how_to_get_one(tmp_path: Path) -> None:
    printed = write_overview(tmp_path, Reporting("league"), ["even", "elbo_dp"])
    assert "Not run: even, elbo_dp." in printed
    assert "fewstep experiment=digits_league" in printed
