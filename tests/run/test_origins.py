"""An input that lies in a complete run's folder must be the file that this run wrote."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.run import Run, check_output

NAME = "tables/numbers.txt"


def make(folder: Path, content: str) -> Path:
    """The output of a finished run."""
    with Run(folder, {"content": content}) as run:
        write_atomically(folder / NAME, content)
        run.finish(network_calls=0, device="cpu", seed=0)
    return folder / NAME


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return make(tmp_path / "first", "1 2 3")


def enter(folder: Path, output: Path) -> None:
    with Run(folder, {}, {"numbers": output}) as run:
        run.finish(network_calls=0, device="cpu", seed=0)


SPOILT: dict[str, Callable[[Path], object]] = {
    "edited": lambda path: path.write_text("1 2 4"),
    "emptied": lambda path: path.write_text(""),
    "another run's": lambda path: shutil.copy(make(path.parents[2] / "other", "3 2 1"), path),
}


@pytest.mark.parametrize("how", SPOILT)
def test_one_that_is_not_is_refused(how: str, output: Path, tmp_path: Path) -> None:
    SPOILT[how](output)
    with pytest.raises(UserError) as raised:
        enter(tmp_path / "second", output)
    folder = tmp_path / "first"
    assert str(raised.value) == (
        f"The input 'numbers' ({output}) is not the one that the run in {folder} wrote; restore it, or remove "
        "that folder to run it again."
    )
    assert not (tmp_path / "second").exists()


def test_one_that_is_may_be_used(output: Path, tmp_path: Path) -> None:
    enter(tmp_path / "second", output)
    assert (tmp_path / "second" / "run.json").exists()


def test_one_that_the_run_did_not_write_may_be_anything(output: Path, tmp_path: Path) -> None:
    (output.parent / "mine.txt").write_text("7")
    enter(tmp_path / "second", output.parent / "mine.txt")
    assert (tmp_path / "second" / "run.json").exists()


def test_a_damaged_record_is_a_sentence(output: Path, tmp_path: Path) -> None:
    (tmp_path / "first" / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        enter(tmp_path / "second", output)


def test_another_configuration_is_refused_while_the_first_still_works(tmp_path: Path) -> None:
    """Rather than after hours of waiting for it."""
    with Run(tmp_path, {"seed": 0}):
        with pytest.raises(UserError, match="seed is 0 there and 1 here"):
            Run(tmp_path, {"seed": 1}).__enter__()
        assert (tmp_path / "started.json").exists()


def test_an_output_can_be_checked_on_its_own(output: Path) -> None:
    check_output(output)
    output.write_text("3 2 1")
    with pytest.raises(UserError, match=r"numbers\.txt\) is not the one that the run in"):
        check_output(output)
    output.unlink()
    with pytest.raises(UserError, match="there is no file"):
        check_output(output)
