"""A job's dashboard, read back from the files that wandb writes offline; and failures, which end no job."""

import logging
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import wandb

from fewstep.config import Config
from fewstep.dashboard import board
from fewstep.dashboard.lineage import Artefact
from fewstep.dashboard.wandb_logging import WandbLogging
from fewstep.errors import UserError
from fewstep.modules.loggers import CURVES, read_curves
from fewstep.results import COLUMNS, read_results
from tests.dashboard.wandb_file import Offline, written

Made = dict[str, Path]
Show = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "digits"


@pytest.fixture
def show(root: Path, config: Callable[..., Config]) -> Show:
    """(folders) → shows them in a job of their own."""

    def run(*folders: Path, mode: str = "offline", upload_tensors: bool = False, **changes: object) -> None:
        shown = WandbLogging(group="digits", mode=mode, tags=["mine"], upload_tensors=upload_tensors)
        with shown.job(root, config(**changes)):
            for folder in folders:
                shown.show(folder)

    return run


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings of the program so far."""

    def found() -> list[str]:
        mine = [record for record in caplog.records if record.name.startswith("fewstep")]
        return [record.getMessage() for record in mine if record.levelno >= logging.WARNING]

    return found


def train(logged: WandbLogging, folder: Path, *iterations: int) -> None:
    """A training that ends, or is cut, after some iterations."""
    curves = logged.start(folder, "pretrain")
    assert not isinstance(curves, bool)
    for iteration in iterations:
        curves.log_metrics({"train/loss": 1 / (1 + iteration)}, iteration)
    curves.log_metrics({"validation/on": 0.5}, iterations[-1])


def next_second() -> None:
    """wandb names folders by the second, in which no two attempts of a job are otherwise."""
    time.sleep(1.01)


def test_a_job_is_one_run_with_all_that_lies_in_its_folders(
    experiment: Made, show: Show, root: Path, warnings: Callable[[], list[str]]
) -> None:
    show(experiment["rounds"], experiment["report"])
    assert warnings() == []
    (shown,) = written(root)
    assert (shown.run.project, shown.run.run_group, shown.run.job_type) == ("fewstep", "digits", "report")
    assert {*shown.run.tags} == {"digits", "cosine", "elbo_dp", "mine"}
    assert shown.config["pretrain"] == {"iterations": 40}
    assert not {"logger", "outputs"} & shown.config.keys()
    _curves_are_the_results(shown)
    _tables_are_the_files(shown, experiment)
    (picture,) = [row for row in shown.history if "samples/ddim_k004/elbo_dp-k004-tuned.path" in row]
    assert (shown.folder / "files" / picture["samples/ddim_k004/elbo_dp-k004-tuned.path"]).is_file()
    assert shown.summary["fid_digits/data"] == 0.5
    assert shown.summary["seconds_pretrain"] == 12


def _curves_are_the_results(shown: Offline) -> None:
    likelihood, distance = "bits_per_dim/optimal/additive/elbo_dp_tuned", "fid_digits/heun/elbo_dp_tuned"
    assert shown.curve(likelihood, "steps") == [(4, 2.0), (8, 1.0)]  # once, though the report has them too
    assert shown.curve(distance, "nfe") == [(7, 4.5), (15, 8.5)]
    loss = "loss_over_rounds/elbo_dp_rounds2/k004"
    assert shown.curve(loss, "rounds") == [(0.5, 9.0), (1.0, 7.0), (1.5, 6.0), (2.0, 5.0)]
    assert (shown.axes[likelihood], shown.axes[distance], shown.axes[loss]) == ("steps", "nfe", "rounds")


def _tables_are_the_files(shown: Offline, experiment: Made) -> None:
    rows = read_results(experiment["report"] / "results.csv")
    table = shown.table("results")
    assert [list(row) for row in table] == [list(COLUMNS)] * len(rows)
    assert [row["value"] for row in table] == rows["value"].tolist()
    made_of = {(row["artifact"], row["made of"]) for row in shown.table("lineage")}
    names = {key: Artefact(folder).name for key, folder in experiment.items()}
    chain = ("weights", "statistics", "schedule", "tuned_weights", "metrics", "report")
    assert {(names[later], names[earlier]) for earlier, later in pairwise(chain)} <= made_of
    assert (names["weights"], None) in made_of  # the checkpoint


def test_what_a_job_found_is_its_input_and_what_it_made_its_output(
    experiment: Made, make_experiment: Callable[[Path], Made], config: Callable[..., Config], tmp_path: Path
) -> None:
    logged = WandbLogging(mode="offline")
    with logged.job(tmp_path / "digits", config()):
        logged.show(experiment["statistics"])
        made = make_experiment(tmp_path / "later")
        logged.show(made["schedule"])
    (shown,) = written(tmp_path / "digits")
    used = [(one.type, one.use_after_commit) for one in shown.of("artifact") if one.type != "run_table"]
    assert used[:2] == [("weights", True), ("statistics", True)]
    assert used[2:] == [("weights", False), ("statistics", False), ("schedule", False)]


@pytest.mark.parametrize("asked", [False, True])
def test_schedules_are_uploaded_and_tensors_only_when_asked(
    experiment: Made, show: Show, root: Path, asked: bool
) -> None:
    show(experiment["schedule"], upload_tensors=asked)
    (shown,) = written(root)
    files = {file.path: file for one in shown.artifacts.values() for file in one.manifest.contents}
    assert {*files} == {
        "weights.safetensors",
        "model.yaml",
        "statistics.safetensors",
        "schedules/elbo_dp_k004.json",
    }
    for name, file in files.items():
        referenced = name.endswith(".safetensors") and not asked
        assert bool(file.ref) == referenced
        assert bool(file.local_path) != referenced


def test_a_resumed_job_goes_on_in_its_run_and_shows_nothing_twice(
    experiment: Made, show: Show, root: Path
) -> None:
    show(experiment["statistics"])
    next_second()
    show(experiment["metrics"])
    show(experiment["metrics"])  # complete: there is nothing to show
    first, second = written(root)
    assert first.run.run_id == second.run.run_id
    assert [one.type for one in first.artifacts.values()] == ["weights", "statistics"]
    assert [one.type for one in second.artifacts.values()] == ["schedule", "tuned_weights", "metrics"]
    assert len({row["artifact"] for row in second.table("lineage")}) == 5  # tables are whole


def test_jobs_of_one_process_are_runs_of_their_own(experiment: Made, show: Show, root: Path) -> None:
    show(experiment["weights"], stage="pretrain")
    show(experiment["weights"], stage="pretrain", seed=1)
    first, second = written(root)
    assert first.run.run_id != second.run.run_id
    assert first.run.job_type == second.run.job_type == "pretrain"
    assert first.config["seed"] + second.config["seed"] == 1


def test_a_killed_trainings_curve_goes_on_where_it_was_cut(
    experiment: Made, root: Path, config: Callable[..., Config]
) -> None:
    folder = experiment["weights"]
    for iterations in ((9, 19, 29), (19, 29, 39)):
        logged = WandbLogging(mode="offline")
        with logged.job(root, config()):
            train(logged, folder, *iterations)
            if 39 in iterations:
                logged.finish()
                logged.show(folder)
        next_second()
    curve = [point for shown in written(root) for point in shown.curve("pretrain/cosine/train/loss", "iterations")]
    assert [iteration for iteration, _ in curve] == [9, 19, 29, 39]
    assert len(written(root)[0].curve("pretrain/cosine/train/loss", "iterations")) == 3
    assert [iteration for iteration, _ in read_curves(folder / CURVES)] == [9, 19, 29, 39]
    assert written(root)[0].axes["pretrain/*"] == "iterations"


def test_curves_that_were_written_without_a_dashboard_are_shown_later(
    experiment: Made, show: Show, root: Path
) -> None:
    train(WandbLogging(mode="off"), experiment["weights"], 9, 19)
    assert written(root) == []
    show(experiment["weights"])
    (shown,) = written(root)
    assert shown.curve("pretrain/cosine/train/loss", "iterations") == [(9, 0.1), (19, 0.05)]


# Failures.


def test_without_a_login_it_is_off_and_says_so_once(
    experiment: Made, show: Show, root: Path, warnings: Callable[[], list[str]]
) -> None:
    show(experiment["metrics"], mode="online")
    (sentence,) = warnings()
    assert "no login" in sentence
    assert "logger.mode=offline" in sentence
    assert not (root / "dashboard").exists()


def test_off_is_off_in_words_and_by_the_variable(
    experiment: Made, root: Path, config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for logged in (WandbLogging(mode="off"), WandbLogging()):
        with logged.job(root, config()):
            logged.show(experiment["metrics"])
    assert warnings() == []
    assert not (root / "dashboard").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert WandbLogging().mode == "offline"


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"logger\.mode is 'on'; allowed are online, offline, off"):
        WandbLogging(mode="on")


def test_other_ranks_show_nothing(
    experiment: Made, show: Show, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewstep.dashboard.wandb_logging.rank", lambda: 1)
    show(experiment["metrics"])
    assert not (root / "dashboard").exists()


def _missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)


def _bad_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "too short")


def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(board, "_LONGEST_START", 1.0)
    wandb.teardown()  # of settings that were read before


@pytest.mark.parametrize("trouble", [_missing, _bad_key, _no_server])
def test_what_fails_at_the_start_is_one_sentence(
    experiment: Made, root: Path, config: Callable[..., Config], trouble: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]],
) -> None:  # fmt: skip
    trouble(monkeypatch)
    logged = WandbLogging(mode="online")
    with logged.job(root, config()):
        train(logged, experiment["weights"], 9, 19)
        logged.show(experiment["metrics"])
    (sentence,) = warnings()
    assert sentence.startswith("The dashboard is off from here on (")
    assert sentence.endswith("); runs and their files are not affected.")
    assert [iteration for iteration, _ in read_curves(experiment["weights"] / CURVES)] == [9, 19]


def test_what_fails_on_the_way_is_one_sentence_and_a_later_attempt_makes_up_for_it(
    experiment: Made, show: Show, root: Path, monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
) -> None:  # fmt: skip
    add, shown = board.Board.add, []

    def fails_at_the_third(self: board.Board, artefact: Artefact) -> None:
        shown.append(artefact.type)
        if len(shown) == 3:
            raise ConnectionError("the line is dead")
        add(self, artefact)

    monkeypatch.setattr(board.Board, "add", fails_at_the_third)
    show(experiment["schedule"], experiment["metrics"], experiment["reference"])
    (sentence,) = warnings()
    assert "the line is dead" in sentence
    assert shown == ["weights", "statistics", "schedule"]
    next_second()
    show(experiment["metrics"])
    assert shown[3:] == ["schedule", "tuned_weights", "metrics"]
    assert [one.of("exit")[0].exit_code for one in written(root)] == [1, 0]


def test_a_server_that_no_longer_answers_is_waited_for_once(
    experiment: Made, show: Show, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(board, "_LONGEST_ANSWER", 0.0)
    show(experiment["statistics"], experiment["metrics"])
    (sentence,) = warnings()
    assert "the server takes too long to answer" in sentence


def test_a_job_that_fails_is_marked_so_and_its_error_is_its_own(
    experiment: Made, root: Path, config: Callable[..., Config]
) -> None:
    logged = WandbLogging(mode="offline")

    def job() -> None:
        with logged.job(root, config()):
            logged.show(experiment["weights"])
            raise UserError("mine")

    with pytest.raises(UserError, match="mine"):
        job()
    (shown,) = written(root)
    assert shown.of("exit")[0].exit_code == 1


def test_a_second_process_at_the_same_job_leaves_the_dashboard_to_the_first(
    experiment: Made, root: Path, config: Callable[..., Config], show: Show, warnings: Callable[[], list[str]]
) -> None:
    logged = WandbLogging(mode="offline")
    with logged.job(root, config()):
        logged.show(experiment["weights"])
        show(experiment["schedule"])
        (sentence,) = warnings()
        assert "another process" in sentence
        logged.show(experiment["schedule"])
    (shown,) = written(root)
    assert [one.type for one in shown.artifacts.values()] == ["weights", "statistics", "schedule"]
