"""The order in which things are made, from the records of finished runs alone."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from fewstep.dashboard.lineage import Artefact, ancestry

Made = dict[str, Path]


def test_metrics_come_of_tuned_weights_of_a_schedule_of_statistics_of_weights(experiment: Made) -> None:
    types = [artefact.type for artefact in ancestry(experiment["metrics"])]
    assert types == ["weights", "statistics", "schedule", "tuned_weights", "metrics"]


def test_everything_comes_once_and_after_what_it_is_made_of(experiment: Made) -> None:
    found = ancestry(experiment["report"])
    folders = [artefact.folder for artefact in found]
    assert len(set(folders)) == len(folders) == 7  # all but the rounds, of which the report was not made
    for position, artefact in enumerate(found):
        assert {one.folder for one in artefact.inputs if one.folder} <= {*folders[:position]}


def test_outputs_that_were_moved_keep_their_lineage(experiment: Made, tmp_path: Path) -> None:
    before = [artefact.name for artefact in ancestry(experiment["report"])]
    shutil.move(tmp_path / "digits", tmp_path / "moved")
    moved = tmp_path / "moved" / "report" / experiment["report"].name
    found = ancestry(moved)
    assert [artefact.name for artefact in found] == before
    assert all(artefact.folder.is_relative_to(tmp_path / "moved") for artefact in found)


def test_a_file_from_elsewhere_is_an_input_of_no_run(experiment: Made) -> None:
    (checkpoint,) = Artefact(experiment["weights"]).inputs
    assert checkpoint.folder is None
    assert checkpoint.path.name == "checkpoint.pt"


def test_a_name_is_one_that_wandb_takes_and_a_label_is_without_seed_and_fingerprint(
    make_experiment: Callable[[Path], Made], tmp_path: Path
) -> None:
    made = make_experiment(tmp_path / "é ü")
    for folder in made.values():
        assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,128}", Artefact(folder).name)
    assert Artefact(made["tuned_weights"]).label == "elbo_dp-k004"
    assert Artefact(tmp_path / "search" / "mine: ü").name == "search-mine___"
