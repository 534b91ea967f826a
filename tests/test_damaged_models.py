"""A damaged model file ends soon and in a sentence, whatever size of network it describes."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser, EdmParameterisation
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.weights import MODEL, WEIGHTS, load_model, save_model


@pytest.fixture
def folder(tmp_path: Path, small_unet: Callable[..., UNet]) -> Path:
    """A saved model."""
    denoiser = Denoiser(small_unet(image_size=4), Process.cosine(40), EdmParameterisation(0.4))
    save_model(tmp_path, denoiser, (1, 4, 4), 17)
    return tmp_path


def rewrite(folder: Path, **changes: object) -> None:
    """Change what the model file says; of the network's config the settings given alone."""
    model = yaml.safe_load((folder / MODEL).read_text())
    config = changes.get("config")
    if isinstance(config, dict):
        changes["config"] = model["config"] | config
    (folder / MODEL).write_text(yaml.safe_dump(model | changes))


@pytest.mark.parametrize(
    "config",
    [
        {"model_channels": 2**20},
        {"num_classes": 2**40},
        {"num_res_blocks": 10**9},
        {"channel_mult": [10**6]},
        {"image_size": 2**40, "channel_mult": [1] * 40},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_network_that_no_memory_holds_is_not_made(config: dict[str, object], folder: Path) -> None:
    rewrite(folder, config=config)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"does not describe a model|do not fit the model"):
        load_model(folder)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"config": {"dropout": "much"}}, "config.dropout is 'much'"),
        ({"config": {"dropout": float("nan")}}, "dropout=nan"),
        ({"config": {"image_size": 8192}}, r"image_size is 8192, but its shape is \[1, 4, 4\]"),
        ({"config": None}, "does not describe a model"),
        ({"config": {"channel_mult": [None]}}, r"config.channel_mult\[0\] is None"),
        ({"parameterisation": {"name": "edm", "sigma_data": [1]}}, r"sigma_data is \[1\]"),
        ({"parameterisation": {"name": "edm", "sigma_data": 0.0}}, "sigma_data is 0.0, but must be positive"),
        ({"parameterisation": {"name": "edm", "time_scale": float("nan")}}, "time_scale is nan"),
        ({"parameterisation": {"name": ["edm"]}}, "does not describe a model"),
        ({"process": {"name": "cosine", "T": 10**9}}, "at most 1,000,000"),
        ({"process": None}, "its name and its arguments"),
        ({"shape": [1, 4]}, "C, H and W"),
        ({"shape": [1, 4, True]}, "C, H and W"),
        ({"levels": 1}, "grey levels from 2 on"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: dict[str, object], sentence: str, folder: Path) -> None:
    rewrite(folder, **changes)
    with pytest.raises(UserError, match=sentence) as raised:
        load_model(folder)
    assert str(folder / MODEL) in str(raised.value)


@pytest.mark.parametrize(
    "line",
    [
        "a: " + "[" * 5000,
        "a: " + "9" * 5000,
        "a: !!int seven",
        "a: 2001-99-99",
        "a: !!python/object/apply:os.getcwd []",
        "a: &a [*a]",
        "a: &a [1]\nb: [*a, *a]",
    ],
    ids=["deep", "long", "no number", "no date", "code", "circle", "alias"],
)
def test_yaml_that_no_model_needs_is_refused(line: str, folder: Path) -> None:
    path = folder / MODEL
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_model(folder)


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str
)
def test_weights_that_are_no_real_numbers_are_refused(dtype: torch.dtype, folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["out.2.bias"] = tensors["out.2.bias"].to(dtype)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UserError, match=f"out.2.bias holds {dtype} instead of torch.float32"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_in_another_precision_are_read(dtype: torch.dtype, folder: Path) -> None:
    save_file({name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    assert next(load_model(folder).parameters()).dtype == torch.float32
