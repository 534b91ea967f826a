"""A model whose weights come from a file goes through the pipeline as it is, or is trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, build
from fewstep.backbones.song_unet import SongUNet
from fewstep.config import Config
from fewstep.errors import UserError
from fewstep.files import sha256
from fewstep.pipeline import Pipeline
from fewstep.planning.networks import Networks
from fewstep.planning.pipeline import PlannedPipeline
from fewstep.schema import check
from fewstep.weights import load_model
from soak.checkpoints import edm_network, edm_pickle, edm_precond, random_tensors

ARGUMENTS: dict[str, Any] = {
    "img_resolution": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}
TINY = [
    *("~experiment", "name=x", "dataset=digits", "process.T=12", "steps=[2]", "schedule_optimizer=[elbo_dp]"),
    *("statistics.images=4", "pretrain.batch_size=8", "pretrain.validate_every=2", "pretrain.warmup=0"),
    *("trainer.accelerator=cpu",),
]
Configured = Callable[..., Config]
Run = Callable[..., Path]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    network = SongUNet(
        image_size=8,
        in_channels=1,
        out_channels=1,
        model_channels=8,
        channel_mult=[1],
        num_res_blocks=1,
        attention_resolutions=[],
    )
    return random_tensors({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """An EDM pickle of a network for digits."""
    outer = {"img_resolution": 8, "img_channels": 1, "model_type": "SongUNet"}
    path = tmp_path / "network.pkl"
    path.write_bytes(edm_pickle(edm_precond(edm_network("SongUNet", tensors, ARGUMENTS, ""), outer, ""), ""))
    return path


@pytest.fixture
def configured(tmp_path: Path, path: Path) -> Configured:
    """Overrides → a configuration."""

    def made(*overrides: str, model: str = "edm_cifar10") -> Config:
        words = [f"model={model}", *TINY, f"outputs={tmp_path / 'outputs'}", *overrides]
        if model == "edm_cifar10":
            words += [f"model.path={path}", "model.image_size=8"]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            settings = OmegaConf.to_container(hydra.compose("config", words), resolve=True)
        assert isinstance(settings, dict)
        check(settings, Config)
        return Config(**{str(key): value for key, value in settings.items()})

    return made


@pytest.fixture
def run(tmp_path: Path, configured: Configured) -> Run:
    """Overrides → the folder of the outputs."""

    def made(*overrides: str, model: str = "edm_cifar10") -> Path:
        Pipeline(configured(*overrides, model=model), build).run()
        return tmp_path / "outputs" / "x"

    return made


def the(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_its_weights_are_kept_as_they_are(run: Run, path: Path, tensors: dict[str, torch.Tensor]) -> None:
    outputs = run("stage=search")
    folder = the(outputs, "pretrain/*")
    kept = load_model(folder).backbone.state_dict()
    assert kept.keys() == tensors.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())
    record = json.loads((folder / "run.json").read_text())
    assert record["inputs"] == {"checkpoint": {"path": str(path), "sha256": sha256(path)}}
    assert record["network_calls"] == 0
    assert {*record["outputs"]} == {"weights.safetensors", "model.yaml"}
    assert the(outputs, "search/*/schedules/elbo_dp_k002.json").is_file()


def test_a_plan_says_that_its_weights_cost_nothing(run: Run, configured: Configured) -> None:
    pipeline = PlannedPipeline(configured("stage=search"), build, Networks(build))
    pipeline.run()
    calls = {line.folder: (line.stage, line.calls.total) for line in pipeline.ledger.lines.values()}
    assert sorted(calls.values()) == [("pretrain", 0), ("search", 0), ("statistics, train", 12 * 4)]
    folder = the(run("stage=search"), "pretrain/*")
    assert calls[folder] == ("pretrain", json.loads((folder / "run.json").read_text())["network_calls"])


def test_another_file_under_the_same_path_is_noticed(run: Run, path: Path) -> None:
    run("stage=pretrain")
    path.write_bytes(path.read_bytes() + b"more after the end")
    with pytest.raises(UserError, match=r"The input 'checkpoint' .* is not the one that the run in"):
        run("stage=pretrain")


def test_it_is_trained_on_from_its_weights(run: Run, tensors: dict[str, torch.Tensor]) -> None:
    folder = the(run("stage=pretrain", "pretrain.iterations=2", "pretrain.learning_rate=1e-6"), "pretrain/*")
    trained = load_model(folder).backbone.state_dict()
    moved = {name: (trained[name] - tensor).abs().max().item() for name, tensor in tensors.items()}
    assert max(moved.values()) < 1e-5
    assert any(distance > 0 for distance in moved.values())
    assert json.loads((folder / "run.json").read_text())["inputs"].keys() == {"checkpoint"}


def test_a_model_without_a_file_must_be_trained(run: Run) -> None:
    with pytest.raises(
        UserError, match=r"pretrain\.iterations is 0, but this model's weights do not come from a file"
    ):
        run("stage=pretrain", "pretrain.iterations=0", model="unet_digits")
