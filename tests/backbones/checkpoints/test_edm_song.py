"""DDPM++ and NCSN++ from EDM's pickles, against their description written as functions of the state dict."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones.checkpoints.edm import load
from fewstep.backbones.song_unet import SongUNet
from fewstep.process import Process
from fewstep.weights import load_model, save_model
from soak.checkpoints import random_tensors

PROCESS = Process.edm(20, 0.002, 80.0)
SIZE, WIDTH = 16, 8
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
REACHING_AROUND = {(1, 1): 0, (1, 3, 3, 1): 1}


def shapes_of(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network, from its description."""
    noise, width = arguments["channel_mult_noise"] * WIDTH, 4 * WIDTH
    taps = len(arguments["resample_filter"])
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def block(name: str, c: int, out: int, attends: bool = False, resampled: bool = False) -> None:
        layer(f"{name}.norm0", c)
        layer(f"{name}.conv0", out, c, 3, 3)
        layer(f"{name}.affine", out, width)
        layer(f"{name}.norm1", out)
        layer(f"{name}.conv1", out, out, 3, 3)
        if c != out or resampled:
            layer(f"{name}.skip", out, c, 1, 1)
        if resampled:
            shapes[f"{name}.conv0.resample_filter"] = shapes[f"{name}.skip.resample_filter"] = (1, 1, taps, taps)
        if attends:
            layer(f"{name}.norm2", out)
            layer(f"{name}.qkv", 3 * out, out, 1, 1)
            layer(f"{name}.proj", out, out, 1, 1)

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


class Network:
    """A network as its papers describe it, from its tensors and its arguments alone."""

    def __init__(self, state: dict[str, Tensor], arguments: dict[str, Any]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.arguments = arguments
        self.taps = torch.tensor(arguments["resample_filter"], dtype=torch.float64)
        self.taps /= self.taps.sum()

    def conv(self, name: str, h: Tensor, around: int | None = None) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv2d(h, weight, bias, padding=weight.shape[-1] // 2 if around is None else around)

    def linear(self, name: str, h: Tensor) -> Tensor:
        return h @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def normalise(self, name: str, h: Tensor) -> Tensor:
        b, c, *size = h.shape
        groups = h.reshape(b, min(32, c // 4), -1)
        groups = (groups - groups.mean(2, keepdim=True)) / (
            groups.var(2, unbiased=False, keepdim=True) + 1e-6
        ).sqrt()
        gain, bias = (self.state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return groups.reshape(b, c, *size) * gain + bias

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
        expected = Network(state, arguments)(x, c_noise, label)
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
        output = Network(state, DDPMPP)(x / root, (torch.log(sigma) / 4).expand(3), None)
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
