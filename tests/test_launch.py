"""Which rank's end is told, and which settings do not fit the ranks."""

from dataclasses import replace
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf
from torch.distributed import HashStore
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from fewstep.__main__ import CONF, build
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.launch import ERROR, Outcome, _failure, _on_given_ranks, launch

LOST = ProcessRaisedException("RuntimeError: Connection closed by peer", 0, 11)


@pytest.mark.parametrize(
    ("error", "exit_codes", "told"),
    [
        (ProcessExitedException("", 1, 12, -9, "SIGKILL"), [None, -9], "Rank 1 of 2 ended with SIGKILL"),
        (LOST, [1, -9], "Rank 1 of 2 ended with SIGKILL"),  # the first to be noticed is not the first to end
        (LOST, [1, None, -11], "Rank 2 of 3 ended with SIGSEGV"),
        (ProcessExitedException("", 1, 12, 3), [None, 3], "Rank 1 of 2 ended with exit code 3"),
        (LOST, [1, None], "Rank 0 of 2 failed.*Connection closed"),
    ],
)
def test_the_rank_that_ended_first_is_told(error: Any, exit_codes: list[int | None], told: str) -> None:
    with pytest.raises((UserError, RuntimeError), match=told):
        raise _failure(error, exit_codes, HashStore())


def test_what_the_user_got_wrong_is_told_as_the_rank_told_it() -> None:
    store = HashStore()
    store.set(ERROR, "The training loss is nan.")
    with pytest.raises(UserError, match=r"^The training loss is nan.$"):
        raise _failure(ProcessExitedException("", 1, 12, 1), [None, 1], store)


@pytest.fixture(scope="module")
def config() -> Config:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(hydra.compose("config", ["trainer.accelerator=cpu"]), resolve=True)
    assert isinstance(plain, dict)
    return Config(**{str(key): value for key, value in plain.items()})


def never(config: Config) -> Outcome:
    raise AssertionError("the job was begun")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"devices": 2, "num_nodes": 2}, "torchrun or srun"),
        ({"num_nodes": 2}, "torchrun or srun"),
        ({"devices": 2, "strategy": "ddp_spawn"}, "'ddp_spawn'; allowed on several devices are auto, ddp"),
        ({"devices": "auto", "strategy": "fsdp"}, "fsdp .* GPUs"),
        ({"devices": 2, "strategy": "fsdp"}, "fsdp .* GPUs"),
    ],
)
def test_settings_that_no_device_can_fulfil(config: Config, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        launch(never, replace(config, trainer={**config.trainer, **settings}), build, {})


def test_as_many_devices_as_there_are_ranks(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))

    def on_ranks(settings: dict[str, Any]) -> dict[str, Any]:
        return dict(_on_given_ranks(replace(config, trainer={**config.trainer, **settings})).trainer)

    for settings in ({}, {"devices": 3}, {"devices": "auto", "strategy": "ddp"}, {"devices": 3, "num_nodes": 2}):
        found = on_ranks(settings)
        assert (found["devices"], found["num_nodes"]) == (3, 2)
    with pytest.raises(UserError, match="devices is 6, but there are 6 ranks, 3 on each of 2 nodes"):
        on_ranks({"devices": 6})
