"""A model on disk comes back to the last bit; what does not fit is named."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser, EdmParameterisation, EpsParameterisation, VParameterisation
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.weights import MODEL, WEIGHTS, load_model, load_weights, read_model, save_model

CONFIG = {
    "image_size": 4,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": [1],
    "attention_resolutions": [],
    "num_heads": 1,
}
BIAS, WEIGHT = "out.2.bias", "time_embed.0.weight"


def randomised() -> UNet:
    """Random everywhere, so that no layer hides another."""
    network = UNet(**CONFIG)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    denoiser = Denoiser(randomised(), Process.cosine(40, 1 / 16), EdmParameterisation(0.4, 2.0))
    save_model(tmp_path, denoiser, (1, 4, 4), 17)
    return tmp_path


@pytest.mark.parametrize(
    "parameterisation", [EdmParameterisation(0.4, 2.0), EpsParameterisation(True), VParameterisation()]
)
def test_a_model_comes_back_to_the_last_bit(tmp_path: Path, parameterisation) -> None:
    denoiser = Denoiser(randomised(), Process.cosine(40, 1 / 16), parameterisation)
    save_model(tmp_path, denoiser, (1, 4, 4), 17)
    again = load_model(tmp_path)
    assert again.process == denoiser.process
    assert again.parameterisation == parameterisation
    assert not again.training
    x_t, t = torch.randn(3, 1, 4, 4, dtype=torch.float64), denoiser.process.grid[[1, 20, 40]]
    with torch.no_grad():
        assert torch.equal(again(x_t, t).x0, denoiser.eval()(x_t, t).x0)
    assert (read_model(tmp_path)["shape"], read_model(tmp_path)["levels"]) == ([1, 4, 4], 17)


def test_saving_leaves_two_files_and_no_more(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [MODEL, WEIGHTS]


def test_a_model_without_a_config_cannot_be_saved(tmp_path: Path) -> None:
    for backbone in (torch.nn.Conv2d(1, 1, 1), lambda x, t: x):
        with pytest.raises(UserError, match="does not state its config"):
            save_model(tmp_path, Denoiser(backbone, Process.cosine(40), "x0"), (1, 4, 4), 17)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop(BIAS), f"{BIAS} is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra is not of this model"),
        (
            lambda tensors: tensors.update({BIAS: torch.zeros(7)}),
            rf"{BIAS} has shape \[7\] instead of \[1\]",
        ),
        (lambda tensors: tensors[WEIGHT].view(-1)[5].fill_(torch.nan), f"{WEIGHT} holds NaN or infinity"),
        (lambda tensors: tensors[WEIGHT].view(-1)[5].fill_(torch.inf), f"{WEIGHT} holds NaN or infinity"),
    ],
    ids=["missing", "extra", "misshaped", "NaN", "infinite"],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change, sentence: str) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UserError, match=sentence) as raised:
        load_model(folder)
    assert "do not fit the model" in str(raised.value)


def test_many_faults_are_counted_and_nothing_is_loaded(folder: Path) -> None:
    network = randomised()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_file({"a": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(UserError, match=f"and {len(before) + 1 - 3} more"):
        load_weights(folder / WEIGHTS, network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights_are_a_sentence(folder: Path, length: int) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:length])
    with pytest.raises(UserError, match=r"weights\.safetensors cannot be read"):
        load_model(folder)


@pytest.mark.parametrize("name", [WEIGHTS, MODEL])
def test_a_missing_file_is_a_sentence(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"backbone": "os.system"}, r"only classes of fewstep\.backbones; given was 'os\.system'"),
        ({"backbone": "fewstep.backbones.unet.Nothing"}, "no backbone"),
        ({"backbone": "fewstep.backbones.nothing.UNet"}, "no backbone"),
        ({"backbone": None}, "only classes of"),
        ({"config": CONFIG | {"depth": 3}}, "does not describe a model.*depth"),
        ({"config": {}}, "does not describe a model.*image_size"),
        ({"config": CONFIG | {"num_heads": 3}}, "num_heads=3 does not divide"),
        ({"config": CONFIG | {"model_channels": 16}}, "do not fit the model"),
        ({"parameterisation": {"name": "epsilon"}}, "does not describe a model.*epsilon"),
        ({"parameterisation": {"name": "edm", "sigma": 1}}, "does not describe a model"),
        ({"parameterisation": "edm"}, "does not describe a model"),
        ({"process": {"name": "linear", "T": 10}}, "T = 10"),
        ({"process": "cosine"}, "does not describe a model"),
    ],
)
def test_a_model_file_that_was_edited_badly_is_a_sentence(folder: Path, change: dict, sentence: str) -> None:
    model = yaml.safe_load((folder / MODEL).read_text(encoding="utf-8"))
    (folder / MODEL).write_text(yaml.safe_dump(model | change), encoding="utf-8")
    with pytest.raises(UserError, match=sentence):
        load_model(folder)


@pytest.mark.parametrize("key", ["backbone", "config", "parameterisation", "process"])
def test_a_model_file_that_lacks_a_key_is_a_sentence(folder: Path, key: str) -> None:
    model = yaml.safe_load((folder / MODEL).read_text(encoding="utf-8"))
    del model[key]
    (folder / MODEL).write_text(yaml.safe_dump(model), encoding="utf-8")
    with pytest.raises(UserError, match=f"does not describe a model.*{key}"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"- 1", b"a: [", b"\xff\xfe\x00", b"!!python/object:os.system {}"])
def test_a_model_file_that_is_none_is_a_sentence(folder: Path, content: bytes) -> None:
    (folder / MODEL).write_bytes(content)
    with pytest.raises(UserError, match=r"model\.yaml"):
        load_model(folder)
