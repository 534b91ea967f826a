"""README's own commands and code, run at tiny size, and its table of groups."""

import importlib.util
import io
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fewstep.__main__ import CONF, main
from fewstep.process import Process
from fewstep.schedule import Schedule

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
TINY = {
    "process.T": "24",
    "steps": "[2,4]",
    "schedule_optimizer": "[even,elbo_dp]",
    "model.backbone.model_channels": "8",
    "model.backbone.num_groups": "2",
    "model.backbone.channel_mult": "[1]",
    "model.backbone.attention_resolutions": "[]",
    "pretrain.iterations": "4",
    "pretrain.batch_size": "16",
    "pretrain.validate_every": "4",
    "finetune.steps": "4",
    "finetune.iterations": "4",
    "finetune.batch_size": "16",
    "finetune.validate_every": "4",
    "statistics.images": "8",
    "evaluation.images": "8",
    "evaluation.samples": "20",
    "evaluation.sample_seeds": "[0]",
    "evaluation.variances": "[optimal]",
    "evaluation.pictured": "2",
    "features.epochs": "1",
    "features.width": "4",
    "features.num_features": "4",
}
# A command keeps what it says of these; of anything else, such as its number of iterations, it says too much.
KEPT = {"steps", "schedule_optimizer"}


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of README's shell blocks that call the pipeline, without their comments."""
    lines = [line for block in fenced("sh") for line in block.splitlines()]
    return [
        shlex.join(shlex.split(line, comments=True)) for line in lines if re.match(r"fewstep\b(?! export)", line)
    ]


@contextmanager
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def run_tiny(command: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """The words after `fewstep`, and what the command prints with tiny settings appended."""
    _, *words = shlex.split(command)
    said = {word.partition("=")[0] for word in words}
    tiny = [f"{key}={value}" for key, value in TINY.items() if key not in said & KEPT]
    monkeypatch.setattr(sys, "argv", ["fewstep", *words, *tiny])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    out, err = io.StringIO(), io.StringIO()
    with restored_logging(), redirect_stdout(out), redirect_stderr(err):
        main()
    return words, out.getvalue()


def test_the_readme_has_the_commands_that_are_promised() -> None:
    found = commands()
    assert "fewstep" in found
    assert any("stage=search" in command for command in found)
    assert any(command.startswith("fewstep -m ") for command in found)
    makes = [line for block in fenced("sh") for line in block.splitlines() if line.startswith("make ")]
    assert {"make demo", "make test"} <= {*makes}


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_does_what_it_says(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, printed = run_tiny(command, monkeypatch)
    outputs = tmp_path / "outputs" / "digits"
    if "--cfg" in words:
        assert "\nschedule_optimizer:\n" in printed
        assert not outputs.exists()
    elif "jobs" in words:
        assert printed.endswith("4 jobs; nothing was run.\n")
        assert not outputs.exists()
    elif "plan" in words:
        assert re.search(r"^pretrain +– +64 ", printed, re.MULTILINE)  # 4 iterations of 16 images
        assert not outputs.exists()
    elif "stage=search" in words:
        files = [Path(line) for line in printed.splitlines()[1:]]
        assert [Schedule.load(path).steps for path in files] == [4, 8, 16]
        assert not (outputs / "evaluate").exists()
    else:
        swept = [word.partition("=")[2].split(",") for word in words if "-m" in words and "=" in word]
        jobs = [path for path in (outputs / "jobs").iterdir() if path.is_dir()]
        reports = list((outputs / "report").iterdir())
        assert len(jobs) == len(reports) == max(1, torch.tensor([len(values) for values in swept]).prod().item())
        for report in reports:
            assert (report / "report.html").is_file()
            assert f"The report: {report.relative_to(tmp_path) / 'report.html'}" in printed


def test_the_notebooks_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = []

    def model(x_t: Tensor, time: Tensor) -> Tensor:
        calls.append(len(x_t))
        return 0.9 * x_t

    images = torch.randint(0, 256, (4, 3, 2, 2), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
    notebook = {"model": model, "images": images}
    with redirect_stderr(io.StringIO()):
        for block in fenced("python"):
            if "from diffusers" not in block or importlib.util.find_spec("diffusers"):
                exec(block, notebook)
    schedule = notebook["schedule"]
    assert isinstance(schedule, Schedule)
    assert schedule.steps == 8
    assert len(schedule.timesteps()) == 8
    assert len(schedule.sigmas()) == 9
    assert {*calls} == {4}
    assert len(calls) <= 50  # few timesteps of the thousand, as it says


def test_the_exports_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Schedule.on_grid([0, 3, 100, 1000], Process.linear(1000)).save("elbo_dp_k008.json")
    lines = [line for block in fenced("sh") for line in block.splitlines() if line.startswith("fewstep export")]
    assert len(lines) == 3
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with redirect_stdout(io.StringIO()) as printed:
            main()
        output = Path(line.rpartition(" --output ")[2])
        assert printed.getvalue() if "--output" not in line else output.is_file()


def test_the_table_of_groups_names_every_option() -> None:
    rows = re.findall(r"^\| *(`[\w@.]+`)? *\| *(`[^|]*`) *\|", README, re.MULTILINE)
    table: dict[str, set[str]] = {}
    group = ""
    for named, options in rows:
        group = named.strip("`").partition("@")[0] or group
        table.setdefault(group, set()).update(re.findall(r"`(\w+)`", options))
    groups = {path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}
    assert table == {name: {path.stem for path in (CONF / name).glob("*.yaml")} for name in groups}


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (Path(__file__).parents[1] / link).exists()] == []
