"""OpenAI's state dicts: the network is what its names and shapes say, or the file is refused."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.checkpoints.openai import load, structure
from fewstep.backbones.unet import UNet
from fewstep.errors import UserError
from fewstep.process import Process
from soak.checkpoints import random_tensors
from tests.backbones.checkpoints.openai_network import SIZE, WIDTH, Kind

T = 50
PROCESS = Process.cosine(T)
GIVEN: dict[str, Any] = {
    "timesteps": T,
    "image_size": SIZE,
    "in_channels": 3,
    "out_channels": 6,
    "model_channels": WIDTH,
    "num_classes": None,
    "rescale_timesteps": True,
    "num_heads": 2,
}


IMPROVED = Kind((1, 2, 2), 2, (4, 2))
KINDS = {
    "improved-diffusion": IMPROVED,
    "conditional": Kind((1, 3), 1, (4,), classes=7),
    "added embedding, no attention": Kind((1, 2), 3, (), scale_shift=False),
    "guided-diffusion": Kind((1, 2, 2), 1, (4, 2), blocks_resample=True, classes=7, head=4),
    "one level": Kind((1,), 2, (8,)),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A file as OpenAI writes it."""

    def make(content: Any, **options: Any) -> Path:
        path = tmp_path / "model.pt"
        torch.save(content, path, **options)
        return path

    return make


def read(path: Path, **change: Any) -> Any:
    return load(str(path), change.pop("process", PROCESS), **(GIVEN | change))


def heads(kind: Kind) -> dict[str, Any]:
    chosen = {"num_heads": None, "num_head_channels": kind.head} if kind.head else {}
    return {"num_classes": kind.classes} | chosen


@pytest.mark.parametrize("kind", KINDS.values(), ids=[*KINDS])
@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before 2020"])
def test_the_network_is_its_description(kind: Kind, zipped: bool, write: Callable[..., Path]) -> None:
    state = random_tensors(kind.shapes)
    path = write(state, _use_new_zipfile_serialization=zipped)
    network = read(path, **heads(kind)).backbone
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    timesteps = torch.tensor([0.0, 20.5, 980.0], dtype=torch.float64)
    label = torch.tensor([6, 0, 3]) if kind.classes else None
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    with torch.no_grad():
        expected = kind.forward(state, x, timesteps, label)
        found = network.double()(x, timesteps, label)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rescale", [True, False])
def test_the_denoiser_predicts_noise_and_a_variance(rescale: bool, write: Callable[..., Path]) -> None:
    """Timestep k of OpenAI's 0 … T − 1 is grid index k + 1, and is told as k · 1000/T where it is rescaled."""
    state, k = random_tensors(IMPROVED.shapes), 30
    denoiser = read(write(state), rescale_timesteps=rescale).double()
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    told = torch.full((2,), k * (1000 / T if rescale else 1), dtype=torch.float64)
    angle = [(n / T + 0.008) / 1.008 * math.pi / 2 for n in (0, k + 1)]
    signal = (math.cos(angle[1]) / math.cos(angle[0])) ** 2  # ᾱ of Nichol & Dhariwal 2021, eq. 17
    with torch.no_grad():
        noise, variance = IMPROVED.forward(state, x, told, None).tensor_split(2, dim=1)
        prediction = denoiser(x, PROCESS.grid[k + 1])
    expected = (x - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
    torch.testing.assert_close(prediction.x0, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(prediction.fraction, (variance + 1) / 2, rtol=0, atol=1e-10)


def test_what_was_recognised_is_said(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    path = write(random_tensors(IMPROVED.shapes))
    with caplog.at_level(logging.INFO):
        read(path)
    (line,) = caplog.messages
    assert (
        f"{path}: OpenAI's UNet, 8×8 pixels, width 8 × [1, 2, 2], 2 residual blocks, attention at [4, 2]" in line
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model_channels": 16}, "model_channels is 8 in the file and 16 in the configuration"),
        ({"out_channels": 3}, "out_channels is 6 in the file and 3 in the configuration"),
        ({"in_channels": 1}, "in_channels is 3 in the file and 1 in the configuration"),
        ({"num_classes": 1000}, "num_classes is None in the file and 1000 in the configuration"),
        ({"num_heads": 3}, "num_heads=3 does not divide"),
        ({"image_size": 6}, "image_size=6"),
        ({"timesteps": 60}, r"trained on Process\.cosine\(T=60.*; process is Process\.cosine\(T=50"),
        ({"process": Process.linear(T)}, r"trained on Process\.cosine\(T=50.*; process is Process\.linear\(T=50"),
        ({"process": Process.cosine(T, 1 / 16)}, "smallest_noise_level=0.0625"),
    ],
)
def test_contradictions_name_both(given: dict[str, Any], sentence: str, write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=sentence):
        read(write(random_tensors(IMPROVED.shapes)), **given)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("input_blocks.3.0.op.weight"), r"input_blocks\.3\.0\.op\.weight is missing"),
        (lambda state: state.pop("time_embed.0.weight"), r"not of OpenAI's UNet: it lacks time_embed\.0\.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is not of this model"),
        (
            lambda state: state.update({"out.0.bias": torch.zeros(7)}),
            r"out\.0\.bias has shape \[7\] instead of \[8\]",
        ),
        (lambda state: state["out.0.bias"].fill_(torch.inf), r"out\.0\.bias holds NaN or infinity"),
        (lambda state: state.update(step=3), "its entry step is not a tensor"),
        (lambda state: state.update({3: torch.zeros(1)}), "its entry 3 is not a tensor with a name"),
        (lambda state: state.update(wide=torch.zeros(1).expand(10**12)), "its entry wide is not a tensor"),
        (lambda state: state.update(thin=torch.eye(3).to_sparse()), "its entry thin is not a tensor"),
        (lambda state: state.clear(), "is no state dict"),
    ],
    ids=[
        "missing",
        "not a UNet",
        "extra",
        "misshaped",
        "infinite",
        "number",
        "name",
        "repeated",
        "sparse",
        "empty",
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, sentence: str, write: Callable[..., Path]) -> None:
    state = random_tensors(IMPROVED.shapes)
    change(state)
    with pytest.raises(UserError, match=sentence):
        read(write(state))


def test_the_published_sizes_are_recognised() -> None:
    """From the shapes of the networks with the published flags alone."""
    for size, mult, width, classes in ((32, [1, 2, 2, 2], 128, None), (64, [1, 2, 3, 4], 192, 1000)):
        config = {
            "in_channels": 3,
            "out_channels": 6,
            "model_channels": width,
            "num_res_blocks": 3,
            "channel_mult": mult,
            "attention_resolutions": [16, 8],
            "num_classes": classes,
            "use_scale_shift_norm": True,
            "resblock_updown": False,
        }
        with torch.device("meta"):
            network = UNet(**config, image_size=size, num_heads=4)
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        assert structure(Path("model.pt"), shapes, size) == config
