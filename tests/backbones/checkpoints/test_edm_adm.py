"""EDM's ADM from its pickles, against its description written as functions of the state dict in EDM's layout."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones.checkpoints.edm import load
from fewstep.backbones.unet import UNet
from fewstep.errors import UserError
from fewstep.process import Process
from soak.checkpoints import random_tensors
from tests.backbones.checkpoints.edm_network import EdmNetwork
from tests.edm_layout import adm_shapes

PROCESS = Process.edm(20, 0.002, 80.0)
SIZE, WIDTH, MULT = 4, 64, [1, 2]  # 128 channels are two heads, the fewest that tell their order
UNCONDITIONAL: dict[str, Any] = {
    "img_resolution": SIZE,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 0,
    "model_channels": WIDTH,
    "channel_mult": MULT,
    "num_blocks": 1,
    "attn_resolutions": [32, 16, 2],
}
NETWORKS = {
    "unconditional": UNCONDITIONAL,
    "conditional": UNCONDITIONAL | {"label_dim": 5, "augment_dim": 9, "attn_resolutions": [4, 2]},
    "no attention but in the middle": UNCONDITIONAL | {"attn_resolutions": []},
}


def state_of(arguments: dict[str, Any]) -> dict[str, Tensor]:
    state = random_tensors(adm_shapes(arguments))
    return {
        name: torch.full_like(tensor, 0.25) if name.endswith("resample_filter") else tensor
        for name, tensor in state.items()
    }


def halve(h: Tensor) -> Tensor:
    return (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4


def double(h: Tensor) -> Tensor:
    return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class Network(EdmNetwork):
    """A network as its paper describes it, from its tensors alone."""

    epsilon = 1e-5

    def block(self, name: str, h: Tensor, embedding: Tensor) -> Tensor:
        change = halve if name.endswith("down") else double if name.endswith("up") else lambda same: same
        skip = change(h)
        h = self.conv(f"{name}.conv0", change(F.silu(self.normalise(f"{name}.norm0", h))))
        affine = self.linear(f"{name}.affine", embedding)[:, :, None, None]
        scale, shift = affine[:, : h.shape[1]], affine[:, h.shape[1] :]
        h = self.conv(f"{name}.conv1", F.silu(self.normalise(f"{name}.norm1", h) * (1 + scale) + shift))
        h = h + (self.conv(f"{name}.skip", skip) if f"{name}.skip.weight" in self.state else skip)
        return self.attention(name, h) if f"{name}.qkv.weight" in self.state else h

    def attention(self, name: str, h: Tensor) -> Tensor:
        """In heads of 64 channels; the rows of qkv run over heads, channels, and q, k and v."""
        b, c, *size = h.shape
        rows = self.conv(f"{name}.qkv", self.normalise(f"{name}.norm2", h)).reshape(b, 3 * c, -1)
        found = []
        for head in range(c // 64):
            q, k, v = (rows[:, [(head * 64 + i) * 3 + part for i in range(64)]] for part in range(3))
            weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 8, dim=2)
            found.append(torch.einsum("bij,bcj->bci", weights, v))
        return h + self.conv(f"{name}.proj", torch.cat(found, 1).reshape(b, c, *size))

    def __call__(self, x: Tensor, c_noise: Tensor, label: Tensor | None) -> Tensor:
        angles = torch.outer(c_noise, 10_000 ** (-torch.arange(WIDTH // 2, dtype=torch.float64) / (WIDTH // 2)))
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedding = self.linear("map_layer1", F.silu(self.linear("map_layer0", embedding)))
        if label is not None:
            weight = self.state["map_label.weight"]
            embedding = embedding + torch.eye(weight.shape[1], dtype=torch.float64)[label] @ weight.T
        embedding = F.silu(embedding)
        h = self.conv("enc.4x4_conv", x)
        skips = [h]
        for name in ("enc.4x4_block0", "enc.2x2_down", "enc.2x2_block0"):
            h = self.block(name, h, embedding)
            skips.append(h)
        for name in ("2x2_in0", "2x2_in1", "2x2_block0", "2x2_block1", "4x4_up", "4x4_block0", "4x4_block1"):
            h = torch.cat([h, skips.pop()], dim=1) if "block" in name else h
            h = self.block(f"dec.{name}", h, embedding)
        return self.conv("out_conv", F.silu(self.normalise("out_norm", h)))


@pytest.mark.parametrize("arguments", NETWORKS.values(), ids=[*NETWORKS])
def test_the_network_is_its_description(
    arguments: dict[str, Any], write_edm: Callable[..., Path], marker: Path
) -> None:
    state = state_of(arguments)
    denoiser = load(str(write_edm("DhariwalUNet", state, arguments)), PROCESS, image_size=SIZE)
    x = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    c_noise = torch.tensor([-1.5, 0.0, 1.1], dtype=torch.float64)
    label = torch.tensor([4, 0, 2]) if arguments["label_dim"] else None
    with torch.no_grad():
        expected = Network(state)(x, c_noise, label)
        found = denoiser.backbone.double()(x, c_noise, label)
    assert isinstance(denoiser.backbone, UNet)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert not marker.exists()


def test_the_label_counts(write_edm: Callable[..., Path]) -> None:
    """So that the agreement above is one of labels too."""
    network = Network(state_of(NETWORKS["conditional"]))
    x, c_noise = torch.ones(1, 3, SIZE, SIZE).double(), torch.zeros(1).double()
    one, other = (network(x, c_noise, torch.tensor([label])) for label in (0, 1))
    assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"enc.2x2_down.conv0.resample_filter": torch.full((1, 1, 2, 2), 0.3)}, "is not the mean of 2×2 pixels"),
        (
            {"enc.4x4_block0.norm9.weight": torch.zeros(3)},
            r"input_blocks\.1\.0\.norm9\.weight is not of this model",
        ),
        ({"extra": torch.zeros(3)}, "extra is not of this model"),
        ({"out_conv.bias": torch.zeros(4)}, r"out\.2\.bias has shape \[4\] instead of \[3\]"),
        ({"out_conv.bias": torch.tensor([0.0, math.nan, 0.0])}, r"out\.2\.bias holds NaN"),
    ],
    ids=["filter", "extra in a block", "extra", "misshaped", "NaN"],
)
def test_tensors_that_do_not_fit_are_named(
    change: dict[str, Tensor], sentence: str, write_edm: Callable[..., Path]
) -> None:
    path = write_edm("DhariwalUNet", state_of(UNCONDITIONAL) | change, UNCONDITIONAL)
    with pytest.raises(UserError, match=sentence):
        load(str(path), PROCESS, image_size=SIZE)


def test_a_missing_tensor_is_named(write_edm: Callable[..., Path]) -> None:
    state = state_of(UNCONDITIONAL)
    del state["dec.2x2_in0.qkv.weight"]
    with pytest.raises(UserError, match=r"middle_block\.1\.qkv\.weight is missing"):
        load(str(write_edm("DhariwalUNet", state, UNCONDITIONAL)), PROCESS, image_size=SIZE)
