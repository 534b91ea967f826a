"""Which rank's end is told, and which settings do not fit the ranks."""

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


def configured(*words: str) -> Config:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(hydra.compose("config", list(words)), resolve=True)
    assert isinstance(plain, dict)
    return Config(**{str(key): value for key, value in plain.items()})


def never(config: Config) -> Outcome:
    raise AssertionError("the job was begun")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trainer.devices=2", "trainer.num_nodes=2"], "torchrun or srun"),
        (["trainer.num_nodes=2"], "torchrun or srun"),
        (
            ["trainer.devices=2", "trainer.strategy=ddp_spawn"],
            "'ddp_spawn'; allowed on several devices are auto, ddp",
        ),
        (["trainer=fsdp"], "fsdp .* GPUs"),
        (["trainer=fsdp", "trainer.devices=2"], "fsdp .* GPUs"),
    ],
)
def test_settings_that_no_device_can_fulfil(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        launch(never, configured(*words, "trainer.accelerator=cpu"), build, {})


def test_as_many_devices_as_there_are_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    for words in ([], ["trainer.devices=3"], ["trainer=ddp"], ["trainer.devices=3", "trainer.num_nodes=2"]):
        config = configured(*words)
        settings = _on_given_ranks(config).trainer
        assert (settings["devices"], settings["num_nodes"]) == (3, 2)
    with pytest.raises(UserError, match="devices is 6, but there are 6 ranks, 3 on each of 2 nodes"):
        _on_given_ranks(configured("trainer.devices=6"))
