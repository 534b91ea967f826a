"""The file of a training's curves, which a killed and resumed training goes on with."""

import pickle
from pathlib import Path

from fewstep.modules.loggers import CURVES, CurveFile, read_curves

LOSS = {9: 5.0, 19: 4.0, 29: 3.0, 39: 2.5}


def measure(folder: Path, iterations: list[int], validated: int) -> None:
    file = CurveFile(folder)
    for iteration in iterations:
        file.log_metrics({"train/loss": LOSS[iteration], "epoch": 0}, iteration)
        if iteration == validated:
            file.log_metrics({"validation/on": 1 / 3}, iteration)


def test_a_resumed_training_leaves_the_curves_of_an_unbroken_one(tmp_path: Path) -> None:
    measure(tmp_path / "unbroken", [*LOSS], validated=19)
    measure(tmp_path / "broken", [9, 19, 29], validated=19)
    with (tmp_path / "broken" / CURVES).open("a") as handle:
        handle.write("39,train/lo")  # as far as it came
    measure(tmp_path / "broken", [29, 39], validated=19)
    unbroken, broken = (read_curves(tmp_path / name / CURVES) for name in ("unbroken", "broken"))
    assert broken == unbroken
    assert unbroken[1] == (19, {"train/loss": 4.0, "validation/on": 1 / 3})


def test_half_a_last_line_is_left_out_and_no_file_has_no_curves(tmp_path: Path) -> None:
    measure(tmp_path, [9], validated=19)
    with (tmp_path / CURVES).open("a") as handle:
        handle.write("19,train/loss,4.")
    assert read_curves(tmp_path / CURVES) == [(9, {"train/loss": 5.0})]
    assert read_curves(tmp_path / "nowhere") == []


def test_a_curve_file_goes_to_another_process_without_what_watches_it(tmp_path: Path) -> None:
    seen: list[int] = []
    here = CurveFile(tmp_path, lambda iteration, values: seen.append(iteration))
    pickle.loads(pickle.dumps(here)).log_metrics({"train/loss": 5.0}, 9)
    assert read_curves(tmp_path / CURVES) == [(9, {"train/loss": 5.0})]
    assert seen == []
