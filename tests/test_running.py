"""How a network is run, memory layout and compilation: the same numbers, and a model file that says so."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.weights import load_model, read_model, save_model

PROCESS = Process.cosine(12, 1 / 16)


@pytest.fixture
def network(small_unet: Callable[..., UNet], randomised: Callable[[UNet, float], UNet]) -> UNet:
    return randomised(small_unet(), 0.1)


def predicted(denoiser: Denoiser) -> torch.Tensor:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        return denoiser(x, PROCESS.grid[5]).x0


def test_channels_last_gives_the_same_numbers(network: UNet, tmp_path: Path) -> None:
    plain = predicted(Denoiser(network, PROCESS, "edm"))
    seen = []
    network.input_blocks[0].register_forward_hook(
        lambda module, inputs, output: seen.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    denoiser = Denoiser(network, PROCESS, "edm", channels_last=True)
    torch.testing.assert_close(predicted(denoiser), plain, rtol=1e-5, atol=1e-5)
    assert seen == [True]
    save_model(tmp_path, denoiser, (1, 8, 8), 17)
    loaded = load_model(tmp_path)
    assert (loaded.channels_last, loaded.compile_backend) == (True, None)
    torch.testing.assert_close(predicted(loaded), plain, rtol=1e-5, atol=1e-5)


def test_a_compiled_network_gives_the_same_numbers(network: UNet, tmp_path: Path) -> None:
    plain = predicted(Denoiser(network, PROCESS, "edm"))
    denoiser = Denoiser(network, PROCESS, "edm", compile="eager")
    assert network._compiled_call_impl is not None
    torch.testing.assert_close(predicted(denoiser), plain)
    save_model(tmp_path, denoiser, (1, 8, 8), 17)
    loaded = load_model(tmp_path)
    assert loaded.compile_backend == "eager"
    assert torch.equal(predicted(loaded), predicted(denoiser))


def test_a_model_that_is_run_plainly_says_nothing(network: UNet, tmp_path: Path) -> None:
    save_model(tmp_path, Denoiser(network, PROCESS, "edm"), (1, 8, 8), 17)
    assert not {"channels_last", "compile"} & read_model(tmp_path).keys()
    assert load_model(tmp_path).backbone._compiled_call_impl is None


def test_what_cannot_be_run_so(network: UNet) -> None:
    with pytest.raises(UserError, match=r"no backend 'indcutor' here; allowed are .*inductor"):
        Denoiser(network, PROCESS, "edm", compile="indcutor")
    with pytest.raises(UserError, match="for a network, a torch module, not for a function"):
        Denoiser(lambda x, time: x, PROCESS, "edm", channels_last=True)
