"""What the user gets wrong is one sentence on stderr and an exit code; nothing is half-written."""

import io
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.__main__ import main
from fewstep.errors import UserError
from fewstep.modules.training import TrainingModule
from fewstep.pipeline import Pipeline
from fewstep.process import Process
from fewstep.schedule import Schedule

TINY = [
    "process.T=40",
    "steps=[2,4]",
    "finetune.steps=4",
    "schedule_optimizer=[even,elbo_dp]",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "pretrain.iterations=4",
    "pretrain.batch_size=16",
    "pretrain.validate_every=2",
    "statistics.images=8",
    "evaluation.images=8",
    "evaluation.samples=20",
    "features.epochs=1",
]


@dataclass(frozen=True)
class Outcome:
    code: object
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What stands behind `fewstep: ` on the only line of stderr."""
        assert self.code not in (0, None), "the program ended as if all were well"
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("fewstep: ")
        return line.removeprefix("fewstep: ")


@contextmanager
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def fewstep(*words: str, full_error: str = "") -> Outcome:
    """The console entry in this process, its exit code included."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with restored_logging(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["fewstep", *words])
        patch.setenv("HYDRA_FULL_ERROR", full_error)
        try:
            main()
        except SystemExit as end:
            # As the interpreter does it.
            code = end.code
            if isinstance(code, str):
                print(code, file=err)
                code = 1
    return Outcome(code, out.getvalue(), err.getvalue())


def written(outputs: Path) -> list[str]:
    """All files but Hydra's notes on the job."""
    files = (path for path in outputs.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(outputs)) for path in files if "jobs" not in path.parts)


# What is given → what the sentence must name: the offender, and what is allowed.
REFUSED: list[tuple[str, Sequence[str]]] = [
    # Numbers of steps.
    ("steps=[0]", ["1 to 40", "0"]),
    ("steps=[-1]", ["1 to 40", "-1"]),
    ("steps=[4,4]", ["once", "[4, 4]"]),
    ("steps=[41]", ["1 to 40", "41"]),
    ("steps=[]", ["at least one"]),
    ("steps=[2.5]", ["steps[0]", "2.5", "integer"]),
    ("steps=4", ["steps", "list"]),
    ("finetune.steps=5", ["5 steps", "2, 4", "finetune.steps"]),
    ("finetune.schedule_optimizer=karras", ["karras", "even, elbo_dp"]),
    # Typos: a key, a group, an option, a key inside an added override, a value among few.
    ("pretrain.iteratoins=3", ["'pretrain.iteratoins'", "'pretrain.iterations'"]),
    ("stag=search", ["'stag'", "'stage'"]),
    ("procss=linear", ["'procss'", "'process'"]),
    ("process=linaer", ["'linaer'", "'linear'", "cosine, edm, linear"]),
    ("schedule_optimizer=[even,elbo_pd]", ["'elbo_pd'", "'elbo_dp'", "karras"]),
    ("solver=ddmi", ["'ddmi'", "'ddim'", "ancestral"]),
    ("experiment=digist", ["'digist'", "'digits'"]),
    ("+pretrain.iters=3", ["pretrain.iters", "'iterations'", "warmup"]),
    ("++model.backbone.chanels=3", ["model.backbone.chanels", "channel_mult"]),
    ("+procss=linear", ["procss", "'process'"]),
    ("+solver.ddim.etha=1", ["solver.ddim.etha", "'eta'"]),
    ("evaluation.sample_steps={ddmi:[4]}", ["'evaluation.sample_steps.ddmi'", "'evaluation.sample_steps.ddim'"]),
    ("+evaluation.sample_steps.ddmi=[4]", ["'ddmi'", "'ddim'", "ancestral"]),
    ("stage=serch", ["'serch'", "pretrain, search, finetune, evaluate, report"]),
    ("variance=optmal", ["'optmal'", "posterior, beta, optimal"]),
    ("evaluation.variances=[optmal]", ["'optmal'", "posterior, beta, optimal"]),
    ("finetune.times=sometimes", ["'sometimes'", "objective, uniform"]),
    ("schedule_optimizer.elbo_dp.objective.decoder=improved", ["'improved'", "additive"]),
    (
        "schedule_optimizer.elbo_dp.search._target_=fewstep.search.dpp.Dp",
        ["fewstep.search.dpp", "fewstep.search.dp"],
    ),
    ("seed=${sead}", ["'sead'", "'seed'"]),
    # Values of the wrong kind or size.
    ("seed=abc", ["seed", "'abc'", "integer"]),
    ("seed=-1", ["seed is -1", "from 0"]),
    ("steps=null", ["steps is None", "list"]),
    ("finetune=null", ["finetune=null", "name of one of its options"]),
    ("name=", ["name", "folder"]),
    ("run_name=../elsewhere", ["run_name", "'../elsewhere'", "without slashes"]),
    ("threads=0", ["threads is 0", "at least 1"]),
    ("levels=16", ["16", "17 grey levels"]),
    ("data_std=0", ["data_std 0", "positive"]),
    ("process.T=1", ["at least 2", "1"]),
    ("process.T=many", ["process.T", "'many'", "integer"]),
    ("process=linear process.T=20", ["linear", "T = 20", "above 20"]),
    ("process=edm process.smallest_noise_level=90", ["90", "80"]),
    ("process.smallest_noise_level=-1", ["-1", "positive"]),
    ("pretrain.iterations=0", ["pretrain.iterations is 0", "at least 1"]),
    ("pretrain.learning_rate=nan", ["pretrain.learning_rate is nan", "positive and finite"]),
    ("pretrain.ema_decay=2", ["pretrain.ema_decay is 2", "[0, 1)"]),
    ("pretrain.warmup=-1", ["pretrain.warmup is -1", "at least 0"]),
    ("finetune.validate_every=0", ["finetune.validate_every is 0", "at least 1"]),
    ("finetune.patience=0", ["finetune.patience", "at least 1"]),
    ("statistics.images=1", ["statistics.images is 1", "at least 2"]),
    ("statistics.batch_size=0", ["statistics.batch_size is 0", "at least 1"]),
    ("evaluation.images=1", ["evaluation.images is 1", "at least 2"]),
    ("evaluation.samples=1", ["evaluation.samples", "at least 2"]),
    ("evaluation.variances=[]", ["evaluation.variances", "at least one"]),
    ("evaluation.sample_seeds=[0,0]", ["evaluation.sample_seeds", "each once"]),
    ("features.epochs=0", ["features.epochs", "at least 1"]),
    ("solver.ddim.eta=2", ["eta", "[0, 1]", "2"]),
    ("schedule_optimizer=karras schedule_optimizer.karras.search.rho=0 finetune=none", ["positive", "0"]),
    ("model.backbone.num_heads=3", ["num_heads=3", "divide"]),
    ("model.backbone.in_channels=3", ["[1, 1, 8, 8]", "3"]),
    ("model.backbone.out_channels=3", ["(1, 3, 8, 8)", "twice the channels"]),
    ("trainer.accelerator=gpuu", ["trainer", "gpuu", "cpu"]),
    ("trainer.devices=0", ["trainer", "devices=0"]),
    ("trainer.precision=7", ["trainer.precision is 7", "32-true"]),
    # Splits.
    ("evaluation.split=train", ["same split", "'train'"]),
    ("statistics.split=test", ["same split", "'test'"]),
    ("evaluation.split=tset", ["evaluation.split", "'tset'", "train, validation, test"]),
    ("outputs=/dev/null/outputs", ["/dev/null", "outputs"]),
    ("steps=[4", ["[4"]),
]


@pytest.mark.parametrize("given, named", REFUSED, ids=[given for given, _ in REFUSED])
def test_bad_input_is_one_sentence_and_leaves_nothing(given: str, named: Sequence[str], tmp_path: Path) -> None:
    words = given.split(" ")
    tiny = [word for word in TINY if word.partition("=")[0] not in [w.partition("=")[0] for w in words]]
    if "finetune=none" in words or "finetune=null" in words:
        tiny.remove("finetune.steps=4")
    sentence = fewstep(f"outputs={tmp_path}", *tiny, *words).sentence
    for part in named:
        assert part in sentence
    assert "Traceback" not in sentence
    assert written(tmp_path) == []


def test_the_process_that_was_started_says_so_too(tmp_path: Path) -> None:
    """The one that a shell sees: exit code and streams of `python -m fewstep`, from another folder."""
    command = [sys.executable, "-m", "fewstep", "process=linaer"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "fewstep: There is no process 'linaer'; did you mean 'linear'? Allowed: cosine, edm, linear.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["steps=[0]", "stag=search", "process=linaer"])
def test_a_traceback_comes_where_it_is_asked_for(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSTEP_TRACEBACK", "1")
    with pytest.raises(Exception, match=r"\d|Could not override|Could not find") as raised:
        fewstep(f"outputs={tmp_path}", *TINY[:1], given)
    assert not isinstance(raised.value, SystemExit)


def test_hydras_own_wish_for_a_traceback_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSTEP_TRACEBACK", "")
    with pytest.raises(UserError, match="given was 0"):
        fewstep(f"outputs={tmp_path}", *TINY[:1], "steps=[0]", full_error="1")


def test_showing_the_configuration_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = fewstep("--cfg", "job", "process=edm")
    assert shown.code == 0
    assert "_target_: fewstep.process.Process.edm" in shown.out
    assert list(tmp_path.iterdir()) == []


# Bad files, between two commands.


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a finished search."""
    outputs = tmp_path_factory.mktemp("searched")
    assert fewstep("stage=search", f"outputs={outputs}", *TINY).code == 0
    return outputs


@pytest.fixture
def outputs(searched: Path, tmp_path: Path) -> Path:
    """A copy of them, to be damaged."""
    shutil.copytree(searched, tmp_path / "outputs")
    return tmp_path / "outputs"


def evaluated(outputs: Path) -> str:
    """The last line of an evaluation that fails; lines before it say how far it went."""
    outcome = fewstep("stage=evaluate", f"outputs={outputs}", *TINY)
    assert outcome.code == 1
    assert outcome.out == ""
    *progress, last = outcome.err.splitlines()
    assert not any(line.startswith(("fewstep: ", "Traceback", "Error")) for line in progress)
    assert last.startswith("fewstep: ")
    assert not list(outputs.glob("digits/evaluate/*/results.csv"))
    return last


def schedule_path(outputs: Path) -> Path:
    (path,) = outputs.glob("digits/search/even-*/schedules/even_k004.json")
    return path


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_truncated_schedule_file(outputs: Path) -> None:
    path = schedule_path(outputs)
    path.write_text(path.read_text()[:100])
    assert f"{path} is not valid JSON (truncated?)" in evaluated(outputs)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"times": [0, 0.5, 0.25, 0.75, 1]}, "must ascend"),
        ({"times": [0, 0.25, float("nan"), 0.75, 1]}, "finite"),
        ({"version": 2}, "newer than the 1"),
        ({"process": {"name": "linear", "T": 40, "smallest_noise_level": 0.0625}}, "process"),
    ],
    ids=["unsorted", "nan", "newer", "of another process"],
)
def test_a_schedule_file_that_cannot_be_used(changes: dict[str, object], reason: str, outputs: Path) -> None:
    path = schedule_path(outputs)
    edited(path, **changes)
    assert str(path) in (sentence := evaluated(outputs))
    assert reason in sentence


def test_a_sound_schedule_file_of_another_process(outputs: Path) -> None:
    path = schedule_path(outputs)
    process = Process.linear(40, 0.0625)
    Schedule(Schedule.load(path).times, process).save(path)
    sentence = evaluated(outputs)
    assert "made for Process.linear(T=40" in sentence
    assert "Process.cosine(T=40" in sentence


def test_a_missing_schedule_file(outputs: Path) -> None:
    path = schedule_path(outputs)
    path.unlink()
    assert "its output schedules/even_k004.json is missing" in evaluated(outputs)


@pytest.mark.parametrize(
    "fault", ["misses one", "has one too many", "has another shape", "holds NaN", "truncated"]
)
def test_weights_that_do_not_fit_the_model(fault: str, outputs: Path) -> None:
    (path,) = outputs.glob("digits/pretrain/*/weights.safetensors")
    tensors = load_file(path)
    name = "out.2.bias"
    if fault == "misses one":
        del tensors[name]
    elif fault == "has one too many":
        tensors["surplus"] = torch.zeros(1)
    elif fault == "has another shape":
        tensors[name] = torch.zeros(2)
    elif fault == "holds NaN":
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    for folder in (outputs / "digits").glob("search/*"):
        shutil.rmtree(folder)
    sentence = evaluated(outputs)
    assert str(path) in sentence
    assert "cannot be read" in sentence if fault == "truncated" else "do not fit the model" in sentence


def test_inputs_that_changed_under_a_finished_run(outputs: Path) -> None:
    (path,) = outputs.glob("digits/pretrain/*/weights.safetensors")
    tensors = load_file(path)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, path)
    assert "is not the one that the run in" in evaluated(outputs)


def test_another_configuration_in_a_runs_folder(tmp_path: Path) -> None:
    named = ["stage=pretrain", "run_name=mine", f"outputs={tmp_path}", *TINY]
    assert fewstep(*named).code == 0
    before = {name: (tmp_path / name).read_bytes() for name in written(tmp_path)}
    assert fewstep(*named).code == 0
    outcome = fewstep(*named, "pretrain.learning_rate=1e-5")
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1
    assert last.startswith(f"fewstep: The folder {tmp_path / 'digits' / 'pretrain' / 'mine-cosine'}")
    assert "pretrain.learning_rate is 0.004 there and 1e-05 here" in last
    assert {name: (tmp_path / name).read_bytes() for name in written(tmp_path)} == before


# Bad data, and a training that fails.


class Images:
    """A dataset whose images are a class's attribute, so that a test can spoil them."""

    name = "images"
    shape = (1, 8, 8)
    levels = 17
    made = torch.zeros(0)

    def images(self, split: str) -> torch.Tensor:
        return self.made

    def labels(self, split: str) -> torch.Tensor:
        return torch.zeros(len(self.made), dtype=torch.int64)


@pytest.mark.parametrize(
    "images, reason",
    [
        (torch.zeros(0, 1, 8, 8), "holds no images"),
        (torch.zeros(10, 8, 8), r"\[B, C, H, W\]"),
        (torch.zeros(10, 1, 4, 4), r"shape \[1, 4, 4\], not \[1, 8, 8\]"),
        (torch.full((10, 1, 8, 8), 16.0), r"\[-1, 1\]; their values run from 16 to 16"),
        (torch.full((10, 1, 8, 8), float("nan")), r"\[-1, 1\]"),
        (torch.full((10, 1, 8, 8), 0.03), "17 grey levels"),
        (torch.zeros(10, 1, 8, 8, dtype=torch.uint8), "float"),
    ],
    ids=["empty", "flat", "small", "not scaled", "nan", "off the levels", "integers"],
)
def test_a_dataset_that_cannot_be_used(
    images: torch.Tensor, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("spoilt")
    module.Images = Images  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spoilt", module)
    monkeypatch.setattr(Images, "made", images)
    sentence = fewstep(f"outputs={tmp_path}", "dataset._target_=spoilt.Images", *TINY).sentence
    assert re.search(reason, sentence)
    assert "images (train)" in sentence
    assert written(tmp_path) == []


def test_a_loss_that_turns_nan(tmp_path: Path) -> None:
    outcome = fewstep("stage=pretrain", f"outputs={tmp_path}", *TINY, "pretrain.learning_rate=1e30")
    last = outcome.err.splitlines()[-1]
    assert outcome.code == 1
    assert last.startswith("fewstep: The training loss is ")
    assert "Lower the learning rate." in last
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("weights.safetensors"))
    assert not list(tmp_path.rglob("run.json"))


def test_an_interruption_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingModule, "training_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        outcome = fewstep("stage=pretrain", f"outputs={tmp_path}", *TINY)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores further interruptions
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "fewstep: interrupted; the same command goes on from here."
    monkeypatch.undo()
    assert fewstep("stage=pretrain", f"outputs={tmp_path}", *TINY).code == 0


def test_the_number_of_threads_reaches_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.setattr(Pipeline, "run", lambda _: "")
    for threads in ("3", "null"):
        assert fewstep(f"outputs={tmp_path}", *TINY, f"threads={threads}").code == 0
    assert numbers == [3]


def test_an_error_of_the_program_itself_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TrainingModule, "training_step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        fewstep("stage=pretrain", f"outputs={tmp_path}", *TINY)
