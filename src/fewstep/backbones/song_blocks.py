"""What DDPM++ and NCSN++ are built of (Song et al. 2021, arXiv 2011.13456, appendix H); EDM's parameter names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.backbones.blocks import GroupNorm, zero

EPS = 1e-6  # of the normalisations
SKIP_SCALE = math.sqrt(0.5)  # what a sum of two branches is multiplied by
GROUPS = 32


def separable(taps: Sequence[float]) -> Tensor:
    """The filter [1, 1, n, n] that averages with the weights `taps` along both axes."""
    row = torch.tensor(list(taps))
    return (row[:, None] * row / row.sum().square())[None, None]


def halved(x: Tensor, kernel: Tensor) -> Tensor:
    """Images [B, C, H, W] at half the resolution, filtered before every second pixel is dropped."""
    kernel = kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, stride=2, padding=(kernel.shape[-1] - 1) // 2, groups=x.shape[1])


def doubled(x: Tensor, kernel: Tensor) -> Tensor:
    """Images [B, C, H, W] at twice the resolution: zeros in between, then the filter at four times its weight."""
    kernel = 4 * kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv_transpose2d(x, kernel, stride=2, padding=(kernel.shape[-1] - 1) // 2, groups=x.shape[1])


class Resampled(nn.Conv2d):
    """A convolution with its filter for another resolution."""

    resample_filter: Tensor

    def __init__(self, channels: int, out_channels: int, size: int, taps: Sequence[float]) -> None:
        super().__init__(channels, out_channels, size, padding=size // 2)
        self.register_buffer("resample_filter", separable(taps))


class HalvedConv(Resampled):
    """Half the resolution, then a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, out_channels, H/2, W/2]."""
        return super().forward(halved(x, self.resample_filter))


class DoubledConv(Resampled):
    """Twice the resolution, then a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, out_channels, 2H, 2W]."""
        return super().forward(doubled(x, self.resample_filter))


class ConvHalved(Resampled):
    """A convolution on the whole resolution, then half of it.

    The convolution also gives the pixels around the image that the filter reaches.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to [B, out_channels, H/2, W/2]."""
        kernel = self.resample_filter.to(x.dtype).expand(self.out_channels, 1, -1, -1)
        around = self.padding[0] + (kernel.shape[-1] - 1) // 2  # type: ignore[operator]
        # The bias is constant, and the filter's weights sum to 1.
        h = F.conv2d(x, self.weight, self.bias, padding=around)
        return F.conv2d(h, kernel, stride=2, groups=self.out_channels)


class Block(nn.Module):
    """A residual block that the embedding is added in, then perhaps self-attention with one head.

    Args:
        channels: of the input.
        out_channels: of the output.
        embedding: width of the embedding.
        dropout: probability.
        attends: whether self-attention follows.
        resampling: the convolution that changes the resolution, or None.
        taps: of its filter.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        embedding: int,
        dropout: float,
        attends: bool,
        resampling: type[Resampled] | None,
        taps: Sequence[float],
    ) -> None:
        super().__init__()
        self.norm0 = GroupNorm(GROUPS, channels, EPS)
        self.conv0 = _convolution(channels, out_channels, 3, resampling, taps)
        self.affine = nn.Linear(embedding, out_channels)
        self.norm1 = GroupNorm(GROUPS, out_channels, EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv1 = zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = channels == out_channels and resampling is None
        self.skip = nn.Identity() if same else _convolution(channels, out_channels, 1, resampling, taps)
        self.attends = attends
        if attends:
            self.norm2 = GroupNorm(GROUPS, out_channels, EPS)
            self.qkv = nn.Conv2d(out_channels, 3 * out_channels, 1)
            self.proj = zero(nn.Conv2d(out_channels, out_channels, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [B, C, H, W] and the embedding [B, E] to [B, out_channels, H', W']."""
        h = self.conv0(F.silu(self.norm0(x))) + self.affine(embedding)[:, :, None, None]
        h = self.conv1(self.dropout(F.silu(self.norm1(h))))
        h = (self.skip(x) + h) * SKIP_SCALE
        return (h + self._attention(h)) * SKIP_SCALE if self.attends else h

    def _attention(self, x: Tensor) -> Tensor:
        rows = (
            self.qkv(self.norm2(x)).flatten(2).transpose(1, 2)
        )  # [B, L, 3C], q, k and v of a channel side by side
        query, key, value = rows.unflatten(2, (-1, 3)).unbind(3)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(x.shape))


def _convolution(
    channels: int, out_channels: int, size: int, resampling: type[Resampled] | None, taps: Sequence[float]
) -> nn.Conv2d:
    if resampling is None:
        return nn.Conv2d(channels, out_channels, size, padding=size // 2)
    return resampling(channels, out_channels, size, taps)


class PositionalEmbedding(nn.Module):
    """Sines, then cosines, of a time at frequencies from 1 to 1/10,000, both ends among them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time: Tensor) -> Tensor:
        """Map times [B] to [B, width]."""
        half = self.width // 2
        exponents = torch.arange(half, dtype=time.dtype, device=time.device) / (half - 1)
        angles = time[:, None] * torch.exp(-math.log(10_000) * exponents)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class FourierEmbedding(nn.Module):
    """Sines, then cosines, of 2π times a time at random frequencies, Gaussian with standard deviation 16."""

    freqs: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(width // 2))

    def forward(self, time: Tensor) -> Tensor:
        """Map times [B] to [B, width]."""
        angles = time[:, None] * (2 * math.pi * self.freqs.to(time.dtype))
        return torch.cat([angles.sin(), angles.cos()], dim=1)
