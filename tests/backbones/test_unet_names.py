"""The UNet's parameters are those of the published networks, by name and shape."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewstep.backbones.unet import UNet

CIFAR10 = {
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 6,
    "model_channels": 128,
    "num_res_blocks": 3,
    "channel_mult": (1, 2, 2, 2),
    "attention_resolutions": (16, 8),
    "num_heads": 4,
}


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def residual_shapes(name: str, c: int, width: int, embedding: int, scale_shift: bool) -> dict:
    shapes = {
        **layer(f"{name}.in_layers.0", c),
        **layer(f"{name}.in_layers.2", width, c, 3, 3),
        **layer(f"{name}.emb_layers.1", 2 * width if scale_shift else width, embedding),
        **layer(f"{name}.out_layers.0", width),
        **layer(f"{name}.out_layers.3", width, width, 3, 3),
    }
    return shapes if c == width else {**shapes, **layer(f"{name}.skip_connection", width, c, 1, 1)}


def attention_shapes(name: str, c: int) -> dict:
    return {**layer(f"{name}.norm", c), **layer(f"{name}.qkv", 3 * c, c, 1), **layer(f"{name}.proj_out", c, c, 1)}


def improved_diffusion_shapes(side, inside, out, width, depth, mults, attention, classes=None, scale_shift=False):
    """List every parameter of improved-diffusion's UNet (without residual up- and downsampling) by name."""
    embedding = 4 * width
    shapes = {**layer("time_embed.0", embedding, width), **layer("time_embed.2", embedding, embedding)}
    if classes is not None:
        shapes["label_emb.weight"] = (classes, embedding)
    shapes |= layer("input_blocks.0.0", mults[0] * width, inside, 3, 3)
    # (channels, resolution) of every input block in turn, from which the output blocks take their skips
    left = [mults[0] * width]
    index = 1
    for level, mult in enumerate(mults):
        for _ in range(depth):
            shapes |= residual_shapes(f"input_blocks.{index}.0", left[-1], mult * width, embedding, scale_shift)
            if side // 2**level in attention:
                shapes |= attention_shapes(f"input_blocks.{index}.1", mult * width)
            left.append(mult * width)
            index += 1
        if level + 1 < len(mults):
            shapes |= layer(f"input_blocks.{index}.0.op", mult * width, mult * width, 3, 3)
            left.append(mult * width)
            index += 1
    c = mults[-1] * width
    shapes |= residual_shapes("middle_block.0", c, c, embedding, scale_shift)
    shapes |= attention_shapes("middle_block.1", c)
    shapes |= residual_shapes("middle_block.2", c, c, embedding, scale_shift)
    for index in range((depth + 1) * len(mults)):
        level = len(mults) - 1 - index // (depth + 1)
        attends = side // 2**level in attention
        shapes |= residual_shapes(
            f"output_blocks.{index}.0", c + left.pop(), mults[level] * width, embedding, scale_shift
        )
        c = mults[level] * width
        if attends:
            shapes |= attention_shapes(f"output_blocks.{index}.1", c)
        if index % (depth + 1) == depth and level > 0:
            shapes |= layer(f"output_blocks.{index}.{1 + attends}.conv", c, c, 3, 3)
    assert not left
    return {**shapes, **layer("out.0", c), **layer("out.2", out, c, 3, 3)}


def shapes_of(network: UNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("scale_shift", [False, True])
def test_parameters_of_the_cifar10_network(scale_shift: bool) -> None:
    with torch.device("meta"):
        network = UNet(**CIFAR10, use_scale_shift_norm=scale_shift)
    shapes = improved_diffusion_shapes(32, 3, 6, 128, 3, (1, 2, 2, 2), (16, 8), scale_shift=scale_shift)
    assert shapes_of(network) == shapes
    # A few of them by hand.
    assert shapes["input_blocks.4.0.op.weight"] == (128, 128, 3, 3)
    assert shapes["input_blocks.5.0.skip_connection.weight"] == (256, 128, 1, 1)
    assert shapes["input_blocks.5.1.qkv.weight"] == (768, 256, 1)
    assert shapes["output_blocks.11.2.conv.weight"] == (256, 256, 3, 3)
    assert shapes["output_blocks.15.0.in_layers.2.weight"] == (128, 256, 3, 3)
    assert "output_blocks.15.1.qkv.weight" not in shapes


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize("scale_shift", [False, True])
def test_parameters_of_a_narrow_network(classes: int | None, scale_shift: bool, narrow: dict[str, Any]) -> None:
    network = UNet(
        **{**narrow, "channel_mult": (1, 2, 4), "num_res_blocks": 2, "attention_resolutions": (4, 8)},
        num_classes=classes,
        use_scale_shift_norm=scale_shift,
    )
    assert shapes_of(network) == improved_diffusion_shapes(8, 2, 3, 8, 2, (1, 2, 4), (4, 8), classes, scale_shift)


@pytest.mark.parametrize(
    ("size", "width", "depth", "mults", "heads", "millions"),
    [
        (64, 192, 3, (1, 2, 3, 4), {"num_head_channels": 64}, 296),
        (128, 256, 2, (1, 1, 2, 3, 4), {"num_heads": 4}, 422),
        (256, 256, 2, (1, 1, 2, 2, 4, 4), {"num_head_channels": 64}, 554),
        (512, 256, 2, (0.5, 1, 1, 2, 2, 4, 4), {"num_head_channels": 64}, 559),
    ],
)
def test_size_of_the_published_imagenet_networks(size, width, depth, mults, heads, millions) -> None:
    """Dhariwal and Nichol 2021 state the parameters of ADM to the million (tables of hyperparameters)."""
    with torch.device("meta"):
        network = UNet(
            image_size=size,
            in_channels=3,
            out_channels=6,
            model_channels=width,
            num_res_blocks=depth,
            channel_mult=mults,
            attention_resolutions=(32, 16, 8),
            num_classes=1000,
            use_scale_shift_norm=True,
            resblock_updown=True,
            **heads,
        )
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


def test_residual_updown_names(narrow: dict[str, Any]) -> None:
    names = set(UNet(**{**narrow, "resblock_updown": True}).state_dict())
    assert {"input_blocks.2.0.in_layers.2.weight", "output_blocks.1.2.out_layers.3.weight"} <= names
    assert not any(".op." in name or ".conv." in name for name in names)


def test_config_describes_the_network(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised({**narrow, "num_classes": 5, "use_scale_shift_norm": True})
    config = json.loads(json.dumps(network.config))
    assert config == network.config
    assert config["channel_mult"] == [1, 2]
    again = UNet(**config).double().eval()
    again.load_state_dict(network.state_dict(), strict=True)
    assert again.config == network.config
    x, timesteps, label = inputs(config)
    assert torch.equal(again(x, timesteps, label), network(x, timesteps, label))
