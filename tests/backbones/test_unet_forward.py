"""The UNet's forward pass against the same one written again as functions of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones.unet import UNet


def sinusoids(timesteps: Tensor, width: int) -> Tensor:
    columns = [torch.cos(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    columns += [torch.sin(timesteps / 10_000 ** (i / (width // 2))) for i in range(width // 2)]
    return torch.stack(columns + [torch.zeros_like(timesteps)] * (width % 2), dim=1)


def silu(h: Tensor) -> Tensor:
    return h / (1 + torch.exp(-h))


def halve(h: Tensor) -> Tensor:
    return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4


def double(h: Tensor) -> Tensor:
    return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


@dataclass(frozen=True)
class Layers:
    """The layers of a state dict, each a function of its name."""

    state: dict[str, Tensor]
    config: dict[str, Any]

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)

    def conv(self, name: str, h: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv2d(h, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def linear(self, name: str, h: Tensor) -> Tensor:
        return h @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def along_pixels(self, name: str, h: Tensor) -> Tensor:
        """A convolution of width 1 of [B, C, L]."""
        weight, bias = self.state[f"{name}.weight"][:, :, 0], self.state[f"{name}.bias"]
        return torch.einsum("oc,bcl->bol", weight, h) + bias[:, None]

    def normalise(self, name: str, h: Tensor) -> Tensor:
        b, c, *size = h.shape
        h = h.reshape(b, min(self.config.get("num_groups", 32), c // 4), -1)
        h = (h - h.mean(2, keepdim=True)) / torch.sqrt(h.var(2, unbiased=False, keepdim=True) + 1e-5)
        gain, bias = (self.state[f"{name}.{part}"][None, :, None, None] for part in ("weight", "bias"))
        return h.reshape(b, c, *size) * gain + bias

    def embedding(self, timesteps: Tensor, label: Tensor | None) -> Tensor:
        found = self.linear("time_embed.0", sinusoids(timesteps, self.config["model_channels"]))
        found = self.linear("time_embed.2", silu(found))
        return found if label is None else found + self.state["label_emb.weight"][label]

    def residual(
        self, name: str, h: Tensor, embedding: Tensor, change: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        skip = h
        h = silu(self.normalise(f"{name}.in_layers.0", h))
        if change is not None:
            h, skip = change(h), change(skip)
        h = self.conv(f"{name}.in_layers.2", h)
        shift = self.linear(f"{name}.emb_layers.1", silu(embedding))[:, :, None, None]
        if self.config.get("use_scale_shift_norm"):
            scale, shift = shift[:, : h.shape[1]], shift[:, h.shape[1] :]
            h = self.normalise(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self.normalise(f"{name}.out_layers.0", h + shift)
        h = self.conv(f"{name}.out_layers.3", silu(h))
        return h + (self.conv(f"{name}.skip_connection", skip) if self.has(f"{name}.skip_connection") else skip)

    def attention(self, name: str, h: Tensor) -> Tensor:
        b, c, *size = h.shape
        heads = self.config.get("num_heads") or c // self.config["num_head_channels"]
        d = c // heads
        rows = self.along_pixels(f"{name}.qkv", self.normalise(f"{name}.norm", h).reshape(b, c, -1))
        found = []
        for head in range(heads):
            q, k, v = (
                torch.stack([rows[:, self.row_of(part, head, i, heads, d)] for i in range(d)], dim=1)
                for part in range(3)
            )
            weights = torch.softmax(torch.einsum("bdi,bdj->bij", q, k) / math.sqrt(d), dim=2)
            found.append(torch.einsum("bij,bdj->bdi", weights, v))
        return h + self.along_pixels(f"{name}.proj_out", torch.cat(found, dim=1)).reshape(b, c, *size)

    def row_of(self, part: int, head: int, i: int, heads: int, d: int) -> int:
        """The row of qkv that holds channel i of q, k or v (part 0, 1, 2) of a head."""
        order = self.config.get("qkv_order", "heads_first")
        if order == "heads_first":
            return head * 3 * d + part * d + i
        return part * heads * d + head * d + i if order == "qkv_first" else head * d * 3 + i * 3 + part

    def down(self, name: str, h: Tensor, embedding: Tensor) -> Tensor:
        if self.has(f"{name}.in_layers"):
            return self.residual(name, h, embedding, halve)
        return self.conv(f"{name}.op", h, stride=2) if self.has(f"{name}.op") else halve(h)

    def up(self, name: str, h: Tensor, embedding: Tensor) -> Tensor:
        if self.has(f"{name}.in_layers"):
            return self.residual(name, h, embedding, double)
        return self.conv(f"{name}.conv", double(h)) if self.has(f"{name}.conv") else double(h)


def reference(
    state: dict[str, Tensor], config: dict[str, Any], x: Tensor, timesteps: Tensor, label: Tensor | None
) -> Tensor:
    """Run the network of a state dict; up- and downsampling are told from the resolutions, the rest from names."""
    layers, depth, levels = Layers(state, config), config["num_res_blocks"], len(config["channel_mult"])
    embedding = layers.embedding(timesteps, label)
    h = layers.conv("input_blocks.0.0", x)
    skips = [h]
    for index in range(1, (depth + 1) * levels):
        name = f"input_blocks.{index}"
        if index % (depth + 1) == 0:
            h = layers.down(f"{name}.0", h, embedding)
        else:
            h = layers.residual(f"{name}.0", h, embedding)
            h = layers.attention(f"{name}.1", h) if layers.has(f"{name}.1.qkv") else h
        skips.append(h)
    h = layers.attention("middle_block.1", layers.residual("middle_block.0", h, embedding))
    h = layers.residual("middle_block.2", h, embedding)
    for index in range((depth + 1) * levels):
        name = f"output_blocks.{index}"
        h = layers.residual(f"{name}.0", torch.cat([h, skips.pop()], dim=1), embedding)
        attends = layers.has(f"{name}.1.qkv")
        h = layers.attention(f"{name}.1", h) if attends else h
        if index % (depth + 1) == depth and index + 1 < (depth + 1) * levels:
            h = layers.up(f"{name}.{1 + attends}", h, embedding)
    return layers.conv("out.2", silu(layers.normalise("out.0", h)))


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
