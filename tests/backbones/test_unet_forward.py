"""The UNet's forward pass against the same one written again as functions of the weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from fewstep.backbones.unet import UNet


def sinusoids(timesteps: torch.Tensor, width: int) -> torch.Tensor:
    columns = [torch.cos(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    columns += [torch.sin(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    return torch.stack(columns + [torch.zeros_like(timesteps)] * (width % 2), dim=1)


def reference(state: dict, config: dict, x: torch.Tensor, timesteps: torch.Tensor, label) -> torch.Tensor:
    """Run the network of a state dict; up- and downsampling are told from the resolutions, the rest from names."""
    depth, levels = config["num_res_blocks"], len(config["channel_mult"])
    groups = config.get("num_groups", 32)

    def normalise(name, h):
        b, c, *size = h.shape
        h = h.reshape(b, min(groups, c // 4), -1)
        h = (h - h.mean(2, keepdim=True)) / torch.sqrt(h.var(2, unbiased=False, keepdim=True) + 1e-5)
        gain, bias = (state[f"{name}.{part}"][None, :, None, None] for part in ("weight", "bias"))
        return h.reshape(b, c, *size) * gain + bias

    def silu(h):
        return h / (1 + torch.exp(-h))

    def conv(name, h, stride=1):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv2d(h, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def halve(h):
        return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4

    def double(h):
        return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def residual(name, h, change=None):
        skip = h
        h = silu(normalise(f"{name}.in_layers.0", h))
        if change is not None:
            h, skip = change(h), change(skip)
        h = conv(f"{name}.in_layers.2", h)
        shift = silu(embedding) @ state[f"{name}.emb_layers.1.weight"].T + state[f"{name}.emb_layers.1.bias"]
        shift = shift[:, :, None, None]
        if config.get("use_scale_shift_norm"):
            scale, shift = shift[:, : h.shape[1]], shift[:, h.shape[1] :]
            h = normalise(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = normalise(f"{name}.out_layers.0", h + shift)
        h = conv(f"{name}.out_layers.3", silu(h))
        return h + (conv(f"{name}.skip_connection", skip) if f"{name}.skip_connection.weight" in state else skip)

    def attention(name, h):
        b, c, *size = h.shape
        heads = config.get("num_heads") or c // config["num_head_channels"]
        d = c // heads
        normal = normalise(f"{name}.norm", h).reshape(b, c, -1)
        rows = torch.einsum("oc,bcl->bol", state[f"{name}.qkv.weight"][:, :, 0], normal)
        rows = rows + state[f"{name}.qkv.bias"][:, None]
        result = torch.empty_like(normal)
        for head in range(heads):
            q, k, v = (
                torch.stack([rows[:, row_of(part, head, i, heads, d)] for i in range(d)], dim=1)
                for part in range(3)
            )
            weights = torch.softmax(torch.einsum("bdi,bdj->bij", q, k) / math.sqrt(d), dim=2)
            result[:, head * d : (head + 1) * d] = torch.einsum("bij,bdj->bdi", weights, v)
        result = torch.einsum("oc,bcl->bol", state[f"{name}.proj_out.weight"][:, :, 0], result)
        return h + (result + state[f"{name}.proj_out.bias"][:, None]).reshape(b, c, *size)

    def row_of(part, head, i, heads, d):
        order = config.get("qkv_order", "heads_first")
        if order == "heads_first":
            return head * 3 * d + part * d + i
        return part * heads * d + head * d + i if order == "qkv_first" else head * d * 3 + i * 3 + part

    def has(name):
        return any(key.startswith(f"{name}.") for key in state)

    def down(name, h):
        if has(f"{name}.in_layers"):
            return residual(name, h, halve)
        return conv(f"{name}.op", h, stride=2) if has(f"{name}.op") else halve(h)

    def up(name, h):
        if has(f"{name}.in_layers"):
            return residual(name, h, double)
        return conv(f"{name}.conv", double(h)) if has(f"{name}.conv") else double(h)

    embedding = sinusoids(timesteps, config["model_channels"])
    embedding = embedding @ state["time_embed.0.weight"].T + state["time_embed.0.bias"]
    embedding = silu(embedding) @ state["time_embed.2.weight"].T + state["time_embed.2.bias"]
    if label is not None:
        embedding = embedding + state["label_emb.weight"][label]

    h = conv("input_blocks.0.0", x)
    skips = [h]
    for index in range(1, (depth + 1) * levels):
        name = f"input_blocks.{index}"
        if index % (depth + 1) == 0:
            h = down(f"{name}.0", h)
        else:
            h = residual(f"{name}.0", h)
            h = attention(f"{name}.1", h) if has(f"{name}.1.qkv") else h
        skips.append(h)
    h = residual("middle_block.2", attention("middle_block.1", residual("middle_block.0", h)))
    for index in range((depth + 1) * levels):
        name = f"output_blocks.{index}"
        h = residual(f"{name}.0", torch.cat([h, skips.pop()], dim=1))
        attends = has(f"{name}.1.qkv")
        h = attention(f"{name}.1", h) if attends else h
        if index % (depth + 1) == depth and index + 1 < (depth + 1) * levels:
            h = up(f"{name}.{1 + attends}", h)
    return conv("out.2", silu(normalise("out.0", h)))


def test_forward_equals_the_functional_forward(
    variant: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(variant)
    x, timesteps, label = inputs(variant)
    expected = reference(network.state_dict(), variant, x, timesteps, label)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, timesteps, label), expected, rtol=0, atol=1e-12)


def test_qkv_orders_are_different_networks(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    config = {**narrow, "num_heads": 2}
    x, timesteps, _ = inputs(config)
    state = randomised(config).state_dict()
    outputs = []
    for order in ("heads_first", "qkv_first", "interleaved"):
        network = UNet(**config, qkv_order=order).double()
        network.load_state_dict(state, strict=True)
        outputs.append(network(x, timesteps))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[a] - outputs[b]).abs().max() > 0.01


def test_channels_last_gives_the_same_numbers(
    elaborate: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(elaborate)
    x, timesteps, label = inputs(elaborate)
    plain = network(x, timesteps, label)
    network.to(memory_format=torch.channels_last)
    last = network(x.contiguous(memory_format=torch.channels_last), timesteps, label)
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-12)
