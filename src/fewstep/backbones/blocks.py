"""What the UNet is built of; parameter names as in improved-diffusion and guided-diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.errors import UserError

QKV_ORDERS = ("heads_first", "qkv_first", "interleaved")

Layer = TypeVar("Layer", bound=nn.Module)


class Conditioned(nn.ModuleList):
    """Layers in sequence, of which the residual blocks also get the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Pass x [B, C, H, W] through the layers, with the embedding [B, E] where it is used."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class ResBlock(nn.Module):
    """Two convolutions beside a skip connection, with the embedding between them.

    `resample`, a layer without parameters, changes the resolution before the first convolution and on the skip
    connection alike.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        embedding: int,
        dropout: float,
        scale_shift: bool,
        num_groups: int,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = nn.Identity() if resample is None else resample
        self.in_layers = nn.Sequential(
            GroupNorm(num_groups, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (1 + scale_shift) * out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(num_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [B, C, H, W] and the embedding [B, E] to [B, out_channels, H', W']."""
        normalise, activate, convolve = self.in_layers
        h = convolve(self.resample(activate(normalise(x))))
        shift = self.emb_layers(embedding)[:, :, None, None]
        normalise, activate, drop, convolve = self.out_layers
        if self.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            h = normalise(h) * (1 + scale) + shift
        else:
            h = normalise(h + shift)
        return self.skip_connection(self.resample(x)) + convolve(drop(activate(h)))


class AttentionBlock(nn.Module):
    """Self-attention between the pixels of an image, beside a skip connection."""

    def __init__(self, channels: int, heads: int, qkv_order: str, num_groups: int) -> None:
        super().__init__()
        self.heads, self.qkv_order = heads, qkv_order
        self.norm = GroupNorm(num_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # [B, L, C]: a view where x is channels_last
        rows = F.linear(pixels, self.qkv.weight[:, :, 0], self.qkv.bias)
        if self.qkv_order == "heads_first":
            query, key, value = rows.unflatten(2, (self.heads, 3, -1)).unbind(3)
        elif self.qkv_order == "qkv_first":
            query, key, value = rows.unflatten(2, (3, self.heads, -1)).unbind(2)
        else:
            query, key, value = rows.unflatten(2, (self.heads, -1, 3)).unbind(4)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))  # [B, heads, L, d]
        attended = F.scaled_dot_product_attention(query, key, value)  # softmax(q k / sqrt(d)) v
        attended = attended.transpose(1, 2).flatten(2)
        change = F.linear(attended, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return x + change.transpose(1, 2).view_as(x)


class Downsample(nn.Module):
    """Half the resolution: a convolution of stride 2, or the mean of 2x2 pixels."""

    def __init__(self, channels: int, convolves: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if convolves else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, C, H/2, W/2]."""
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution: every pixel four times, then perhaps a convolution."""

    def __init__(self, channels: int, convolves: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if convolves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, C, 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class GroupNorm(nn.GroupNorm):
    """Normalisation in min(num_groups, channels // 4) groups, computed in float32 or better."""

    def __init__(self, num_groups: int, channels: int, eps: float = 1e-5) -> None:
        groups = min(num_groups, channels // 4)
        if groups < 1 or channels % groups:
            raise UserError(
                f"num_groups={num_groups} does not fit a layer of {channels} channels: "
                f"min(num_groups, channels // 4) = {groups} must be at least 1 and divide the channels"
            )
        super().__init__(groups, channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, H, W]; the result has its dtype."""
        if x.dtype.itemsize >= 4:  # float32 or float64
            return super().forward(x)
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(
            x.dtype
        )


def check_input(name: str, config: Mapping[str, Any], x: Tensor, times: Tensor, label: Tensor | None) -> None:
    """Raise UserError unless a network that is called `name` takes the images, times and labels."""
    channels, size, classes = (config[key] for key in ("in_channels", "image_size", "num_classes"))
    if x.ndim != 4 or x.shape[1:] != (channels, size, size):
        raise UserError(
            f"the {name} got images of shape {list(x.shape)}; it takes [B, {channels}, {size}, {size}]"
        )
    if times.shape != x.shape[:1]:
        raise UserError(
            f"the {name} got timesteps of shape {list(times.shape)}; it takes [{len(x)}], one per image"
        )
    if classes is None and label is not None:
        raise UserError(f"the {name} got labels, but it is unconditional (num_classes is None): leave them out")
    if classes is not None and label is None:
        raise UserError(f"the {name} got no labels; it is conditional and takes one of {classes} for each image")
    if label is not None and label.shape != x.shape[:1]:
        raise UserError(f"the {name} got labels of shape {list(label.shape)}; it takes [{len(x)}], one per image")


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of timesteps [B] at width // 2 frequencies, 1 to about 1 / max_period: [B, width].

    Fractions of a timestep count. The dtype is that of `timesteps`; an odd width ends in a zero.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=timesteps.dtype, device=timesteps.device) / half
    angles = timesteps[:, None] * torch.exp(-math.log(max_period) * exponents)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, width - 2 * half))


def zero(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
