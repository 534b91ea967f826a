"""How many threads a job takes, by where it runs, and what is said where a launcher's plugin is not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import open_dict

from fewstep.__main__ import CONF
from fewstep.callbacks import threads_beside_others

pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
pytest.importorskip("hydra_plugins.hydra_submitit_launcher")


@pytest.mark.parametrize(
    "launcher, threads",
    [
        ("basic", None),
        ("joblib", 1),
        ("joblib hydra.launcher.n_jobs=1", None),
        ("submitit_local", 1),
        ("submitit_slurm", 1),
        ("submitit_slurm hydra.launcher.cpus_per_task=4", 4),
    ],
)
def test_threads_of_a_job(launcher: str, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", f"hydra/launcher={launcher}".split(), return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    assert threads_beside_others() is None  # one run, no sweep
    with open_dict(config.hydra.job):
        config.hydra.job.num = 3
    assert threads_beside_others() == threads


@pytest.mark.parametrize(
    "choice", ["hydra/launcher=joblib", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"]
)
def test_a_plugin_that_is_not_installed(
    choice: str, fewstep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Plugins.instance()
    group, _, name = choice.partition("=")
    options = ConfigStore.instance().repo["hydra"][group.partition("/")[2]]
    monkeypatch.delitem(options, f"{name}.yaml")
    sentence = fewstep("-m", choice, "seed=0,1", f"outputs={tmp_path}").sentence
    assert sentence == f"{choice} needs a plugin that is not installed; pip install 'fewstep[sweeps]' brings it."
    assert fewstep("-m", "hydra/launcher=jobilb", "seed=0,1").sentence.startswith("There is no hydra/launcher")
