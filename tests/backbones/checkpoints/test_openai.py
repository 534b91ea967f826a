"""OpenAI's state dicts: the network is what its names and shapes say, or the file is refused."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones.checkpoints.openai import load, structure
from fewstep.backbones.unet import UNet
from fewstep.errors import UserError
from fewstep.process import Process
from soak.checkpoints import random_tensors

T, SIZE, WIDTH = 50, 8, 8
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


class Kind:
    """A network in OpenAI's layout: its shapes, and its forward pass from the tensors alone."""

    def __init__(
        self,
        mult: tuple[int, ...],
        depth: int,
        attention: tuple[int, ...],
        *,
        scale_shift: bool = True,
        blocks_resample: bool = False,
        classes: int | None = None,
        head: int | None = None,
    ) -> None:
        self.mult, self.depth, self.attention, self.classes, self.head = mult, depth, attention, classes, head
        self.scale_shift, self.blocks_resample = scale_shift, blocks_resample
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.layers: list[tuple[str, list[tuple[str, str]]]] = []  # (skip: pushed or taken, layers of a block)
        self._list()

    def _layer(self, name: str, *shape: int) -> None:
        self.shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    def _residual(self, name: str, c: int, out: int) -> None:
        self._layer(f"{name}.in_layers.0", c)
        self._layer(f"{name}.in_layers.2", out, c, 3, 3)
        self._layer(f"{name}.emb_layers.1", (1 + self.scale_shift) * out, 4 * WIDTH)
        self._layer(f"{name}.out_layers.0", out)
        self._layer(f"{name}.out_layers.3", out, out, 3, 3)
        if c != out:
            self._layer(f"{name}.skip_connection", out, c, 1, 1)

    def _attention(self, name: str, c: int) -> None:
        self._layer(f"{name}.norm", c)
        self._layer(f"{name}.qkv", 3 * c, c, 1)
        self._layer(f"{name}.proj_out", c, c, 1)

    def _resampling(self, name: str, kind: str, c: int) -> tuple[str, str]:
        if self.blocks_resample:
            self._residual(name, c, c)
            return name, f"residual {kind}"
        self._layer(f"{name}.{'op' if kind == 'down' else 'conv'}", c, c, 3, 3)
        return name, kind

    def _list(self) -> None:
        self._layer("time_embed.0", 4 * WIDTH, WIDTH)
        self._layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
        if self.classes:
            self.shapes["label_emb.weight"] = (self.classes, 4 * WIDTH)
        c = self.mult[0] * WIDTH
        self._layer("input_blocks.0.0", c, 3, 3, 3)
        skips, i = [c], 1
        self.layers.append(("push", [("input_blocks.0.0", "convolution")]))
        for level, mult in enumerate(self.mult):
            for _ in range(self.depth):
                self._residual(f"input_blocks.{i}.0", c, mult * WIDTH)
                c = mult * WIDTH
                block = [(f"input_blocks.{i}.0", "residual")]
                if SIZE >> level in self.attention:
                    self._attention(f"input_blocks.{i}.1", c)
                    block.append((f"input_blocks.{i}.1", "attention"))
                self.layers.append(("push", block))
                skips.append(c)
                i += 1
            if level + 1 < len(self.mult):
                self.layers.append(("push", [self._resampling(f"input_blocks.{i}.0", "down", c)]))
                skips.append(c)
                i += 1
        self._residual("middle_block.0", c, c)
        self._attention("middle_block.1", c)
        self._residual("middle_block.2", c, c)
        middle = [("middle_block.0", "residual"), ("middle_block.1", "attention"), ("middle_block.2", "residual")]
        self.layers.append(("", middle))
        i = 0
        for level, mult in reversed(list(enumerate(self.mult))):
            for last in [*[False] * self.depth, True]:
                self._residual(f"output_blocks.{i}.0", c + skips.pop(), mult * WIDTH)
                c = mult * WIDTH
                block = [(f"output_blocks.{i}.0", "residual")]
                if SIZE >> level in self.attention:
                    self._attention(f"output_blocks.{i}.1", c)
                    block.append((f"output_blocks.{i}.1", "attention"))
                if last and level:
                    block.append(self._resampling(f"output_blocks.{i}.{len(block)}", "up", c))
                self.layers.append(("take", block))
                i += 1
        self._layer("out.0", c)
        self._layer("out.2", 6, c, 3, 3)

    def forward(self, state: dict[str, Tensor], x: Tensor, timesteps: Tensor, label: Tensor | None) -> Tensor:
        state = {name: tensor.double() for name, tensor in state.items()}

        def conv(name: str, h: Tensor, stride: int = 1) -> Tensor:
            weight = state[f"{name}.weight"]
            return F.conv2d(h, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2)

        def linear(name: str, h: Tensor) -> Tensor:
            return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        def normalise(name: str, h: Tensor) -> Tensor:
            groups = h.reshape(len(h), min(32, h.shape[1] // 4), -1)
            spread = (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
            whole = ((groups - groups.mean(2, keepdim=True)) / spread).reshape(h.shape)
            return whole * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

        def change(kind: str, h: Tensor) -> Tensor:
            if kind == "down":
                return h.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
            return h.repeat_interleave(2, 2).repeat_interleave(2, 3) if kind == "up" else h

        def residual(name: str, h: Tensor, kind: str) -> Tensor:
            skip = change(kind, h)
            h = conv(f"{name}.in_layers.2", change(kind, F.silu(normalise(f"{name}.in_layers.0", h))))
            added = linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None]
            if self.scale_shift:
                scale, shift = added.tensor_split(2, dim=1)
                h = normalise(f"{name}.out_layers.0", h) * (1 + scale) + shift
            else:
                h = normalise(f"{name}.out_layers.0", h + added)
            h = conv(f"{name}.out_layers.3", F.silu(h))
            return h + (conv(f"{name}.skip_connection", skip) if f"{name}.skip_connection.bias" in state else skip)

        def attention(name: str, h: Tensor) -> Tensor:
            """The rows of qkv run over heads, then q, k and v, then channels."""
            c = h.shape[1]
            d = self.head or c // 2
            rows = torch.einsum(
                "oi,bil->bol", state[f"{name}.qkv.weight"][:, :, 0], normalise(f"{name}.norm", h).flatten(2)
            )
            rows = rows + state[f"{name}.qkv.bias"][:, None]
            found = []
            for first in range(0, 3 * c, 3 * d):
                q, k, v = (rows[:, first + part * d : first + (part + 1) * d] for part in range(3))
                weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(d), dim=2)
                found.append(v @ weights.transpose(1, 2))
            change = torch.einsum("oi,bil->bol", state[f"{name}.proj_out.weight"][:, :, 0], torch.cat(found, 1))
            return h + (change + state[f"{name}.proj_out.bias"][:, None]).reshape(h.shape)

        def layer(name: str, kind: str, h: Tensor) -> Tensor:
            if kind.startswith("residual"):
                return residual(name, h, kind.removeprefix("residual").strip())
            if kind == "attention":
                return attention(name, h)
            if kind == "down":
                return conv(f"{name}.op", h, stride=2)
            return conv(f"{name}.conv", change("up", h)) if kind == "up" else conv(name, h)

        angles = torch.outer(timesteps, 10_000 ** (-torch.arange(WIDTH // 2, dtype=torch.float64) / (WIDTH // 2)))
        embedding = linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], dim=1))
        embedding = linear("time_embed.2", F.silu(embedding))
        embedding = embedding if label is None else embedding + state["label_emb.weight"][label]
        h, skips = x, []
        for skip, block in self.layers:
            h = torch.cat([h, skips.pop()], dim=1) if skip == "take" else h
            for name, kind in block:
                h = layer(name, kind, h)
            if skip == "push":
                skips.append(h)
        return conv("out.2", F.silu(normalise("out.0", h)))


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
