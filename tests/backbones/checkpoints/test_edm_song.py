"""DDPM++ and NCSN++ from EDM's pickles, against their description written as functions of the state dict."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.checkpoints.edm import load
from fewstep.backbones.song_unet import SongUNet
from fewstep.process import Process
from fewstep.weights import load_model, save_model
from tests.backbones.checkpoints.song_network import SIZE, WIDTH, SongNetwork, state_of

PROCESS = Process.edm(20, 0.002, 80.0)
DDPMPP: dict[str, Any] = {
    "img_resolution": SIZE,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 0,
    "augment_dim": 9,
    "model_channels": WIDTH,
    "channel_mult": [1, 2, 2],
    "num_blocks": 1,
    "dropout": 0.13,
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": [1, 1],
}
NCSNPP = DDPMPP | {
    "embedding_type": "fourier",
    "encoder_type": "residual",
    "channel_mult_noise": 2,
    "resample_filter": [1, 3, 3, 1],
}
NETWORKS = {
    "ddpm++": DDPMPP,
    "ddpm++, conditional": DDPMPP | {"label_dim": 5, "num_blocks": 2, "attn_resolutions": [16, 8]},
    "ncsn++": NCSNPP,
    "ncsn++, conditional": NCSNPP | {"label_dim": 5, "augment_dim": 0, "channel_mult": [2, 1]},
}


@pytest.fixture(params=NETWORKS)
def arguments(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NETWORKS[request.param]


def inputs(arguments: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    label = torch.tensor([4, 0, 2]) if arguments["label_dim"] else None
    return x, torch.tensor([-1.5, 0.0, 1.1], dtype=torch.float64), label


def test_the_network_is_its_description(
    arguments: dict[str, Any], write_edm: Callable[..., Path], marker: Path
) -> None:
    state = state_of(arguments)
    denoiser = load(str(write_edm("SongUNet", state, arguments)), PROCESS, image_size=SIZE)
    x, c_noise, label = inputs(arguments)
    with torch.no_grad():
        expected = SongNetwork(state, arguments)(x, c_noise, label)
        found = denoiser.backbone.double()(x, c_noise, label)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert not marker.exists()


def test_the_denoiser_is_edms(write_edm: Callable[..., Path]) -> None:
    """Karras et al. 2022, table 1, last column."""
    state = state_of(DDPMPP)
    denoiser = load(str(write_edm("SongUNet", state, DDPMPP)), PROCESS, image_size=SIZE).double()
    x, _, _ = inputs(DDPMPP)
    sigma = PROCESS.sigma(PROCESS.grid[7])
    root = torch.sqrt(sigma**2 + 0.25)
    with torch.no_grad():
        output = SongNetwork(state, DDPMPP)(x / root, (torch.log(sigma) / 4).expand(3), None)
        found = denoiser(x, PROCESS.grid[7]).x0
    torch.testing.assert_close(found, 0.25 / root**2 * x + 0.5 * sigma / root * output, rtol=0, atol=1e-10)


def test_tensors_are_recovered_bit_for_bit(arguments: dict[str, Any], write_edm: Callable[..., Path]) -> None:
    state = state_of(arguments)
    found = load(str(write_edm("SongUNet", state, arguments)), PROCESS, image_size=SIZE).backbone.state_dict()
    state.pop("map_augment.weight", None)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_half_precision_becomes_float32(write_edm: Callable[..., Path]) -> None:
    state = state_of(DDPMPP, torch.float16)
    found = load(str(write_edm("SongUNet", state, DDPMPP)), PROCESS, image_size=SIZE).backbone.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in found.items())


def test_a_saved_model_comes_back(
    arguments: dict[str, Any], write_edm: Callable[..., Path], tmp_path: Path
) -> None:
    denoiser = load(str(write_edm("SongUNet", state_of(arguments), arguments)), PROCESS, image_size=SIZE)
    save_model(tmp_path / "model", denoiser, (3, SIZE, SIZE), 256)
    again = load_model(tmp_path / "model")
    assert isinstance(again.backbone, SongUNet)
    x, _, label = inputs(arguments)
    with torch.no_grad():
        assert torch.equal(again(x, PROCESS.grid[9], label).x0, denoiser(x, PROCESS.grid[9], label).x0)


@pytest.mark.parametrize(("arguments", "name"), [(DDPMPP, "DDPM++"), (NCSNPP, "NCSN++")])
def test_what_was_recognised_is_said(
    arguments: dict[str, Any], name: str, write_edm: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_edm("SongUNet", state_of(arguments), arguments)
    with caplog.at_level(logging.INFO):
        load(str(path), PROCESS, image_size=SIZE)
    (line,) = caplog.messages
    assert f"{path}: EDM's {name}, 16×16 pixels, width 8 × [1, 2, 2], 1 residual blocks, unconditional" in line
