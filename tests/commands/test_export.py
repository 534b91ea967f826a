"""`fewstep export`: what it prints and writes, and the one sentence that it says otherwise."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from fewstep.__main__ import main
from fewstep.process import Process
from fewstep.schedule import Schedule

Run = Callable[..., tuple[object, str]]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch) -> Run:
    """(words after `fewstep export`) → what it ended with, and what it printed."""

    def run(*words: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["fewstep", "export", *map(str, words)])
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            try:
                main()
            except SystemExit as end:
                return end.code, out.getvalue()
        return 0, out.getvalue()

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "schedule.json"
    Schedule.on_grid([0, 31, 450, 1000], Process.scaled_linear(1000), {"search": "dp"}).save(path)
    return path


def test_diffusers(export: Run, file: Path) -> None:
    code, printed = export(file, "--to", "diffusers", "--scheduler", "EulerDiscreteScheduler")
    content = json.loads(printed)
    assert code == 0
    assert content["set_timesteps"] == {"timesteps": [999, 449, 30]}
    assert content["scheduler"] == "EulerDiscreteScheduler"
    assert (content["config"]["beta_start"], content["config"]["beta_end"]) == (0.00085, 0.012)


def test_sigmas(export: Run, file: Path) -> None:
    sigmas = Schedule.load(file).sigmas()
    assert json.loads(export(file, "--to", "k-diffusion")[1]) == sigmas
    printed = export(file, "--to=comfyui")[1]
    assert [float(number) for number in printed.split(",")] == pytest.approx(sigmas, rel=1e-6)


def test_a_file_holds_what_would_be_printed(export: Run, file: Path, tmp_path: Path) -> None:
    written = tmp_path / "new folder" / "sigmas.txt"
    assert export(file, "--to", "comfyui", "--output", written) == (0, "")
    assert written.read_text() == export(file, "--to", "comfyui")[1]


def test_help_names_every_software(export: Run) -> None:
    code, printed = export("--help")
    assert code == 0
    for word in (
        "diffusers",
        "k-diffusion",
        "comfyui",
        "--scheduler",
        "--output",
        "DDPMScheduler",
        "set_timesteps",
    ):
        assert word in printed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required"),
        (["{file}"], "required: --to"),
        (["{file}", "--to", "automatic1111"], "invalid choice: 'automatic1111'"),
        (["{file}", "--to", "diffusers"], "Name the scheduler of diffusers: --scheduler with Euler"),
        (["{file}", "--to", "diffusers", "--scheduler", "DDIMScheduler"], "DDIMScheduler cannot run a schedule"),
        (["{file}", "--to", "comfyui", "--scheduler", "DDPMScheduler"], "leave out --scheduler DDPMScheduler"),
        (["absent.json", "--to", "comfyui"], "absent.json cannot be read"),
        (["{file}", "--to", "comfyui", "--output", "/dev/null/x"], "/dev/null/x cannot be written"),
        (["{file}", "--to", "comfyui", "steps=3"], "unrecognized arguments: steps=3"),
    ],
)
def test_what_is_wrong_is_one_sentence(words: list[str], sentence: str, export: Run, file: Path) -> None:
    code, printed = export(*(word.format(file=file) for word in words))
    assert printed == ""
    assert isinstance(code, str), "an exit code of 1, with a sentence"
    assert code.startswith("fewstep: ")
    assert sentence in code
    assert "\n" not in code
