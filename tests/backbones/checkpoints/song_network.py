"""DDPM++ and NCSN++ by their papers: the tensors of a state dict, and the forward pass from them alone."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from soak.checkpoints import random_tensors
from tests.backbones.checkpoints.edm_network import EdmNetwork
from tests.edm_layout import Shapes

SIZE, WIDTH = 16, 8
REACHING_AROUND = {(1, 1): 0, (1, 3, 3, 1): 1}


def shapes_of(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network, from its description."""
    noise, width = arguments["channel_mult_noise"] * WIDTH, 4 * WIDTH
    taps = len(arguments["resample_filter"])
    shapes = Shapes(width, affine=1, taps=taps, projects=True)
    layer, block = shapes.layer, shapes.block
    if arguments["embedding_type"] == "fourier":
        shapes["map_noise.freqs"] = (noise // 2,)
    if arguments["label_dim"]:
        layer("map_label", noise, arguments["label_dim"])
    if arguments["augment_dim"]:
        layer("map_augment", noise, arguments["augment_dim"], bias=False)
    layer("map_layer0", width, noise)
    layer("map_layer1", width, width)
    attention, depth = arguments.get("attn_resolutions", [16]), arguments["num_blocks"]
    sizes = [(SIZE >> i, m * WIDTH) for i, m in enumerate(arguments["channel_mult"])]
    c, beside = WIDTH, 3
    layer(f"enc.{SIZE}x{SIZE}_conv", WIDTH, 3, 3, 3)
    skips = [c]
    for size, out in sizes:
        if size < SIZE:
            block(f"enc.{size}x{size}_down", c, c, resampled=True)
            if arguments["encoder_type"] == "residual":
                layer(f"enc.{size}x{size}_aux_residual", c, beside, 3, 3)
                shapes[f"enc.{size}x{size}_aux_residual.resample_filter"] = (1, 1, taps, taps)
                beside = c
            skips.append(c)
        for i in range(depth):
            block(f"enc.{size}x{size}_block{i}", c, out, attends=size in attention)
            c = out
            skips.append(c)
    block(f"dec.{size}x{size}_in0", c, c, attends=True)
    block(f"dec.{size}x{size}_in1", c, c)
    for size, out in reversed(sizes):
        if size != sizes[-1][0]:
            block(f"dec.{size}x{size}_up", c, c, resampled=True)
        for i in range(depth + 1):
            block(f"dec.{size}x{size}_block{i}", c + skips.pop(), out, attends=size in attention and i == depth)
            c = out
    layer(f"dec.{SIZE}x{SIZE}_aux_norm", c)
    layer(f"dec.{SIZE}x{SIZE}_aux_conv", 3, c, 3, 3)
    return shapes


def state_of(arguments: dict[str, Any], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    state = random_tensors(shapes_of(arguments), dtype)
    taps = torch.tensor(arguments["resample_filter"], dtype=torch.float64)
    for name in state:
        if name.endswith("resample_filter"):
            state[name] = (torch.outer(taps, taps) / taps.sum() ** 2)[None, None].to(dtype)
    return state


class SongNetwork(EdmNetwork):
    """A network as its papers describe it, from its tensors and its arguments alone."""

    epsilon = 1e-6

    def __init__(self, state: dict[str, Tensor], arguments: dict[str, Any]) -> None:
        super().__init__(state)
        self.arguments = arguments
        self.taps = torch.tensor(arguments["resample_filter"], dtype=torch.float64)
        self.taps /= self.taps.sum()

    def filtered(self, h: Tensor) -> Tensor:
        """Both axes filtered, without padding."""
        n = len(self.taps)
        h = sum(tap * h[..., i : h.shape[-2] - n + 1 + i, :] for i, tap in enumerate(self.taps))
        return sum(tap * h[..., i : h.shape[-1] - n + 1 + i] for i, tap in enumerate(self.taps))

    def halve(self, h: Tensor) -> Tensor:
        around = (len(self.taps) - 1) // 2
        return self.filtered(F.pad(h, [around] * 4))[..., ::2, ::2]

    def double(self, h: Tensor) -> Tensor:
        b, c, height, width = h.shape
        apart = h.new_zeros(b, c, 2 * height, 2 * width)
        apart[..., ::2, ::2] = 4 * h
        before = len(self.taps) // 2  # what the symmetric filter reaches back from a pixel between two zeros
        return self.filtered(F.pad(apart, [before, before - 1] * 2))

    def block(self, name: str, h: Tensor, embedding: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        skip = change(h)
        h = self.conv(f"{name}.conv0", change(F.silu(self.normalise(f"{name}.norm0", h))))
        h = h + self.linear(f"{name}.affine", embedding)[:, :, None, None]
        h = self.conv(f"{name}.conv1", F.silu(self.normalise(f"{name}.norm1", h)))
        h = (h + (self.conv(f"{name}.skip", skip) if f"{name}.skip.weight" in self.state else skip)) / math.sqrt(2)
        return self.attention(name, h) if f"{name}.qkv.weight" in self.state else h

    def attention(self, name: str, h: Tensor) -> Tensor:
        b, c, *size = h.shape
        rows = self.conv(f"{name}.qkv", self.normalise(f"{name}.norm2", h)).reshape(b, 3 * c, -1)
        q, k, v = (rows[:, part::3] for part in range(3))
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(c), dim=2)
        found = torch.einsum("bij,bcj->bci", weights, v).reshape(b, c, *size)
        return (h + self.conv(f"{name}.proj", found)) / math.sqrt(2)

    def embedding(self, c_noise: Tensor, label: Tensor | None) -> Tensor:
        width = self.arguments["channel_mult_noise"] * WIDTH
        if self.arguments["embedding_type"] == "fourier":
            frequencies = 2 * math.pi * self.state["map_noise.freqs"]
        else:
            exponents = -torch.arange(width // 2, dtype=torch.float64) / (width // 2 - 1)
            frequencies = 10_000**exponents
        angles = torch.outer(c_noise, frequencies)
        found = torch.cat([angles.sin(), angles.cos()], dim=1)
        if label is not None:
            classes = self.arguments["label_dim"]
            one_hot = torch.eye(classes, dtype=torch.float64)[label]
            found = found + self.linear("map_label", one_hot * math.sqrt(classes))
        return F.silu(self.linear("map_layer1", F.silu(self.linear("map_layer0", found))))

    def __call__(self, x: Tensor, c_noise: Tensor, label: Tensor | None) -> Tensor:
        embedding, depth = self.embedding(c_noise, label), self.arguments["num_blocks"]
        sizes = [SIZE >> i for i in range(len(self.arguments["channel_mult"]))]

        def same(h: Tensor) -> Tensor:
            return h

        h, beside = self.conv(f"enc.{SIZE}x{SIZE}_conv", x), x
        skips = [h]
        for size in sizes:
            if size < SIZE:
                h = self.block(f"enc.{size}x{size}_down", h, embedding, self.halve)
                if self.arguments["encoder_type"] == "residual":
                    reach = 1 + REACHING_AROUND[tuple(self.arguments["resample_filter"])]
                    whole = self.conv(f"enc.{size}x{size}_aux_residual", beside, around=reach)
                    h = beside = (h + self.filtered(whole)[..., ::2, ::2]) / math.sqrt(2)
                skips.append(h)
            for i in range(depth):
                h = self.block(f"enc.{size}x{size}_block{i}", h, embedding, same)
                skips.append(h)
        for i in range(2):
            h = self.block(f"dec.{size}x{size}_in{i}", h, embedding, same)
        for size in reversed(sizes):
            if size != sizes[-1]:
                h = self.block(f"dec.{size}x{size}_up", h, embedding, self.double)
            for i in range(depth + 1):
                h = self.block(f"dec.{size}x{size}_block{i}", torch.cat([h, skips.pop()], 1), embedding, same)
        return self.conv(f"dec.{SIZE}x{SIZE}_aux_conv", F.silu(self.normalise(f"dec.{SIZE}x{SIZE}_aux_norm", h)))
