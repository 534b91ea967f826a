"""`fewstep jobs`: the jobs of a sweep, composed and checked, and nothing on the disk."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from fewstep.__main__ import main

Listed = Callable[..., list[str]]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Listed:
    """(words, …) → the lines that `fewstep jobs` prints; it must not write."""

    def make(*words: str) -> list[str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # main sets it
        monkeypatch.setattr(sys, "argv", ["fewstep", "jobs", *words, f"outputs={tmp_path / 'outputs'}"])
        main()
        assert not (tmp_path / "outputs").exists()
        return capsys.readouterr().out.splitlines()

    return make


def test_what_differs_between_the_jobs(listed: Listed) -> None:
    lines = listed("-m", "schedule_optimizer=even,elbo_dp", "seed=3,4", "stage=search")
    assert [line.split() for line in lines[:-1]] == [
        ["0", "schedule_optimizer=even", "seed=3"],
        ["1", "schedule_optimizer=even", "seed=4"],
        ["2", "schedule_optimizer=elbo_dp", "seed=3"],
        ["3", "schedule_optimizer=elbo_dp", "seed=4"],
    ]
    assert lines[-1] == "4 jobs; nothing was run."


def test_an_experiment_that_is_a_sweep_by_itself(listed: Listed) -> None:
    assert [line.split()[1] for line in listed("experiment=ablation_seeds")[:-1]] == [
        f"seed={n}" for n in range(5)
    ]


def test_launchers_do_not_matter(listed: Listed) -> None:
    lines = listed("-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert lines[-1] == "2 jobs; nothing was run."


def test_a_wrong_setting_of_any_job_is_one_sentence(listed: Listed) -> None:
    with pytest.raises(SystemExit, match="There is no stage 'serch'"):
        listed("-m", "stage=search,serch")


def test_every_configuration_is_composed_once(listed: Listed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, as Hydra does by itself, 200 jobs would take as long again."""
    composed = []
    load = ConfigLoaderImpl.load_configuration

    def counted(loader: ConfigLoaderImpl, *given: object, **named: object) -> object:
        composed.append(named)
        return load(loader, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    listed("-m", "seed=0,1")
    two = len(composed)
    listed("-m", "seed=0,1,2,3,4")
    assert len(composed) - two == two + 3
    assert (
        listed("-m", "seed=0,0,0")[-1] == "3 jobs; nothing was run."
    )  # each writes into a configuration of its own
