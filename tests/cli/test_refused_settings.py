"""A setting that the user gets wrong is one sentence on stderr and an exit code; nothing is half-written."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fewstep.errors import UserError

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
    (
        "schedule_optimizer=[even,transport_dp] statistics.teacher.steps=3",
        ["transport_dp needs a teacher of at least 4 steps", "statistics.teacher.steps is 3"],
    ),
    ("statistics.teacher.trajectories=1", ["statistics.teacher.trajectories is 1", "at least 2"]),
    ("finetune.steps=5", ["5 steps", "2, 4", "finetune.steps"]),
    ("finetune.schedule_optimizer=karras", ["karras", "even, elbo_dp"]),
    ("steps=[1,4] evaluation.decoders=[improved_diffusion]", ["steps holds 1", "at least 2 steps"]),
    (
        "decoder=improved_diffusion_tanh",
        ["'improved_diffusion_tanh' has no table", "search with decoder=improved_diffusion"],
    ),
    ("variance=learned", ["'learned'", "model=unet_digits_learned"]),
    ("finetune.steps=[4,5]", ["5 steps", "2, 4", "finetune.steps"]),
    ("finetune.steps=[4,4]", ["finetune.steps is [4, 4]", "once"]),
    ("finetune.schedule_optimizer=[even,karras]", ["karras", "even, elbo_dp"]),
    ("trainable=low_rank", ["'trainable'", "'trainable@finetune.trainable'"]),
    ("trainable@finetune.trainable=lora", ["'lora'", "'low_rank'", "all, last_layers, low_rank"]),
    ("trainable@finetune.trainable=low_rank finetune.trainable.rank=0", ["rank", "0", "at least 1"]),
    ("trainable@finetune.trainable=last_layers finetune.trainable.count=0", ["0", "at least 1"]),
    ("trainable@finetune.trainable=last_layers finetune.trainable.count=9", ["9 layers", "out, output_blocks.*"]),
    (
        "trainable@finetune.trainable=last_layers finetune.trainable.layers=[up_blocks.*]",
        ["'up_blocks'", "time_embed, input_blocks, middle_block, output_blocks, out"],
    ),
    # Tables of all runs.
    ("report.table=leauge", ["'leauge'", "'league'", "watson_bits_per_dim, watson_fid"]),
    ("report.table=league stage=search", ["'league'", "'search'", "stage=report"]),
    ("report.table=league report.experiments=[elsewhere]", ["'elsewhere'", "allowed"]),
    ("report.experiments=[digits]", ["['digits']", "report.table", "league"]),
    # What a search of the sampler's own outputs cannot be.
    (
        "schedule_optimizer=[even,fid_coordinate] schedule_optimizer.fid_coordinate.objective.sample_seeds=[7,0]",
        ["fid_coordinate", "seed 0", "evaluation.sample_seeds"],
    ),
    (
        "schedule_optimizer=[even,teacher_distance_coordinate] "
        "+schedule_optimizer.teacher_distance_coordinate.objective.solver.eta=1",
        ["'ddim' adds more", "heun"],
    ),
    (
        "schedule_optimizer=[even,teacher_distance_coordinate] "
        "schedule_optimizer.teacher_distance_coordinate.search.evaluations=3",
        ["evaluations is 3", "starts"],
    ),
    # Typos: a key, a group, an option, a key inside an added override, a value among few.
    ("pretrain.iteratoins=3", ["'pretrain.iteratoins'", "'pretrain.iterations'"]),
    (
        "schedule_optimizer=[even,discretization_dp] schedule_optimizer.discretization_dp.objective.powr=2",
        ["objective.powr'", "'schedule_optimizer.discretization_dp.objective.power'"],
    ),
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
    ("evaluation.split=validation", ["Tuned models", "'validation'", "finetune=none"]),
    *(
        (
            f"schedule_optimizer=discretization_gradient finetune=none {split}=validation",
            ["discretization_gradient", f"{split} cannot be 'validation'"],
        )
        for split in ("statistics.split", "evaluation.split")
    ),
    ("evaluation.split=tset", ["evaluation.split", "'tset'", "train, validation, test"]),
    ("outputs=/dev/null/outputs", ["/dev/null", "outputs"]),
    ("steps=[4", ["[4"]),
]


@pytest.mark.parametrize("given, named", REFUSED, ids=[given for given, _ in REFUSED])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    given: str,
    named: Sequence[str],
    tmp_path: Path,
    fewstep: Callable[..., Any],
    tiny: list[str],
    written: Callable[[Path], list[str]],
) -> None:
    words = given.split(" ")
    tiny = [word for word in tiny if word.partition("=")[0] not in [w.partition("=")[0] for w in words]]
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
        "fewstep: There is no process 'linaer'; did you mean 'linear'? "
        "Allowed: cosine, edm, linear, scaled_linear.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["steps=[0]", "stag=search", "process=linaer"])
def test_a_traceback_comes_where_it_is_asked_for(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    monkeypatch.setenv("FEWSTEP_TRACEBACK", "1")
    with pytest.raises(Exception, match=r"\d|Could not override|Could not find") as raised:
        fewstep(f"outputs={tmp_path}", *tiny[:1], given)
    assert not isinstance(raised.value, SystemExit)


def test_hydras_own_wish_for_a_traceback_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any], tiny: list[str]
) -> None:
    monkeypatch.setenv("FEWSTEP_TRACEBACK", "")
    with pytest.raises(UserError, match="given was 0"):
        fewstep(f"outputs={tmp_path}", *tiny[:1], "steps=[0]", full_error="1")


def test_showing_the_configuration_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewstep: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = fewstep("--cfg", "job", "process=edm")
    assert shown.code == 0
    assert "_target_: fewstep.process.Process.edm" in shown.out
    assert list(tmp_path.iterdir()) == []
