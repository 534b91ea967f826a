"""Narrow UNets of every structure, random in every parameter, and what they are given."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet

Inputs = tuple[Tensor, Tensor, Tensor | None]  # images, timesteps, labels where the network takes them

NARROW: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 2,
    "out_channels": 3,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": (1, 2),
    "attention_resolutions": (4,),
    "num_heads": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale_shift": {"use_scale_shift_norm": True},
    "resblock_updown": {"resblock_updown": True, "use_scale_shift_norm": True, "channel_mult": (1, 2, 3)},
    "no_conv_resample": {"conv_resample": False},
    "labels": {"num_classes": 5},
    "qkv_first": {"qkv_order": "qkv_first", "num_res_blocks": 2, "attention_resolutions": (8, 4)},
    "interleaved": {"qkv_order": "interleaved", "num_heads": None, "num_head_channels": 4},
    "few_groups": {"num_groups": 2, "attention_resolutions": ()},
    "everything": {
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "num_classes": 5,
        "num_res_blocks": 2,
        "channel_mult": (1, 1, 2),
        "qkv_order": "qkv_first",
    },
}


@pytest.fixture
def narrow() -> dict[str, Any]:
    """The arguments of the plainest network."""
    return dict(NARROW)


@pytest.fixture
def elaborate() -> dict[str, Any]:
    """The arguments of the network with the most kinds of layers."""
    return NARROW | VARIANTS["everything"]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of every kind of network."""
    return NARROW | VARIANTS[request.param]


@pytest.fixture(scope="session")
def randomised() -> Callable[..., UNet]:
    """(arguments, seed, dtype) → a network."""

    def make(config: dict[str, Any], seed: int = 0, dtype: torch.dtype = torch.float64) -> UNet:
        """Those that start at zero are random too; activations stay near 1."""
        generator = torch.Generator().manual_seed(seed)
        network = UNet(**config).to(dtype).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                fan_in = parameter[0].numel()
                parameter.copy_(draw / math.sqrt(fan_in) if parameter.ndim > 1 else 0.3 * draw + ("norm" in name))
        return network

    return make


@pytest.fixture(scope="session")
def inputs() -> Callable[..., Inputs]:
    """(arguments, batch, dtype, seed) → images, timesteps, and labels where the network takes them."""

    def make(config: dict[str, Any], batch: int = 3, dtype: torch.dtype = torch.float64, seed: int = 1) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, config["in_channels"], config["image_size"], config["image_size"])
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        timesteps = 1000 * torch.rand(batch, generator=generator, dtype=torch.float64)
        classes = config.get("num_classes")
        label = None if classes is None else torch.randint(classes, (batch,), generator=generator)
        return x, timesteps, label

    return make
