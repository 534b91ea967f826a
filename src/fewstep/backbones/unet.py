"""The UNet of Ho et al. 2020 (arXiv 2006.11239) in the form that OpenAI publishes.

Layers and parameter names are those of improved-diffusion (Nichol and Dhariwal 2021, arXiv 2102.09672)
and guided-diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233), so that their weights, and those of their
descendants, load strictly. Narrow settings of the same class serve for 8x8 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.backbones.blocks import (
    QKV_ORDERS,
    AttentionBlock,
    Conditioned,
    Downsample,
    GroupNorm,
    ResBlock,
    Upsample,
    check_input,
    timestep_embedding,
    zero,
)
from fewstep.errors import UserError

MOST_BLOCKS = 1000  # of a level: far beyond any network, so that a damaged file ends soon


class UNet(nn.Module):
    """A UNet with attention, conditioned on a timestep and, where it has classes, on a label.

    Attention follows every residual block at the resolutions of `attention_resolutions`, and stands in the
    middle whatever they are. The last convolution starts at zero, so the output does too.

    Args:
        image_size: height and width of the images, in pixels.
        in_channels: channels of the input.
        out_channels: channels of the output; 2 * in_channels for a learned variance.
        model_channels: width; level i has channel_mult[i] * model_channels channels.
        num_res_blocks: residual blocks of a level on the way down; one more on the way up.
        channel_mult: one factor for each level; the resolution halves from each level to the next.
        attention_resolutions: in pixels, not as factors of downsampling.
        num_heads: heads of every attention layer, or else
        num_head_channels: channels of every head. Give exactly one of the two.
        num_classes: number of labels; None for an unconditional network.
        use_scale_shift_norm: the embedding scales and shifts the second normalisation instead of being added.
        resblock_updown: residual blocks change the resolution instead of lone layers.
        conv_resample: the lone layers that change the resolution convolve.
        dropout: probability, before the second convolution of a residual block.
        qkv_order: what the rows of qkv weights run over, slowest first: "heads_first" (head, qkv, channel)
            in improved- and guided-diffusion, "qkv_first" (qkv, head, channel) in consistency models,
            "interleaved" (head, channel, qkv) in EDM. Weights in another order load, and are silently wrong.
        num_groups: C channels are normalised in min(num_groups, C // 4) groups.

    Attributes:
        config: the arguments, sequences as lists; UNet(**config) has the same structure.
        num_classes: number of labels, of which it takes one with every image; None for an unconditional network.

    Raises:
        UserError: the sizes do not fit each other.
    """

    def __init__(
        self,
        *,
        image_size: int,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        num_res_blocks: int,
        channel_mult: Sequence[float],
        attention_resolutions: Sequence[int],
        num_heads: int | None = None,
        num_head_channels: int | None = None,
        num_classes: int | None = None,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        conv_resample: bool = True,
        dropout: float = 0.0,
        qkv_order: str = "heads_first",
        num_groups: int = 32,
    ) -> None:
        channel_mult, attention_resolutions = list(channel_mult), list(attention_resolutions)
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.config: dict[str, Any] = config
        self.num_classes = num_classes
        _check(config)
        embedding = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, embedding)
        widths = [int(factor * model_channels) for factor in channel_mult]
        self.input_blocks, skips = self._way_down(widths)
        top = widths[-1]
        self.middle_block = Conditioned([self._residual(top, top), self._attention(top), self._residual(top, top)])
        self.output_blocks = self._way_up(widths, skips)
        last = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        self.out = nn.Sequential(GroupNorm(num_groups, widths[0]), nn.SiLU(), zero(last))

    def forward(self, x: Tensor, timesteps: Tensor, label: Tensor | None = None) -> Tensor:
        """Run the network on x [B, C, H, W] at timesteps [B] (any real numbers), with labels int64 [B].

        Returns [B, out_channels, H, W] in the dtype of x; inside, the weights' dtype or autocast decides.

        Raises:
            UserError: a shape is wrong, or a label is missing or not wanted.
        """
        check_input("UNet", self.config, x, timesteps, label)
        dtype = next(self.parameters()).dtype
        at_least_float32 = torch.promote_types(dtype, torch.float32)
        waves = timestep_embedding(timesteps.to(at_least_float32), self.config["model_channels"])
        embedding = self.time_embed(waves.to(dtype))
        if label is not None:
            embedding = embedding + self.label_emb(label)
        h = x.to(dtype)
        skips = []
        for block in self.input_blocks:
            h = block(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h).to(x.dtype)

    def _way_down(self, widths: list[int]) -> tuple[nn.ModuleList, list[int]]:
        """Build the input blocks, and list the channels that each leaves for its skip connection."""
        blocks = [Conditioned([nn.Conv2d(self.config["in_channels"], widths[0], 3, padding=1)])]
        channels = [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(self.config["num_res_blocks"]):
                blocks.append(Conditioned(self._residual_and_attention(level, channels[-1], width)))
                channels.append(width)
            if level < len(widths) - 1:
                blocks.append(Conditioned([self._resample(Downsample, width)]))
                channels.append(width)
        return nn.ModuleList(blocks), channels

    def _way_up(self, widths: list[int], skips: list[int]) -> nn.ModuleList:
        """Build the output blocks; each takes the last of `skips` beside what the block before it gives."""
        blocks = []
        channels = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            for i in range(self.config["num_res_blocks"] + 1):
                layers = self._residual_and_attention(level, channels + skips.pop(), width)
                if level > 0 and i == self.config["num_res_blocks"]:
                    layers.append(self._resample(Upsample, width))
                blocks.append(Conditioned(layers))
                channels = width
        return nn.ModuleList(blocks)

    def _residual_and_attention(self, level: int, channels: int, width: int) -> list[nn.Module]:
        attends = self.config["image_size"] >> level in self.config["attention_resolutions"]
        return [self._residual(channels, width), *([self._attention(width)] if attends else [])]

    def _residual(self, channels: int, width: int, resample: nn.Module | None = None) -> ResBlock:
        return ResBlock(
            channels,
            width,
            embedding=4 * self.config["model_channels"],
            dropout=self.config["dropout"],
            scale_shift=self.config["use_scale_shift_norm"],
            num_groups=self.config["num_groups"],
            resample=resample,
        )

    def _attention(self, width: int) -> AttentionBlock:
        heads = self.config["num_heads"] or width // self.config["num_head_channels"]
        return AttentionBlock(width, heads, self.config["qkv_order"], self.config["num_groups"])

    def _resample(self, layer: type[Downsample] | type[Upsample], width: int) -> nn.Module:
        if self.config["resblock_updown"]:
            return self._residual(width, width, layer(width, convolves=False))
        return layer(width, convolves=self.config["conv_resample"])


def _check(config: dict[str, Any]) -> None:
    """Raise UserError where the arguments of a UNet do not fit each other."""
    for name in ("image_size", "in_channels", "out_channels", "model_channels", "num_res_blocks"):
        if config[name] < 1:
            raise UserError(f"{name}={config[name]} is given to the UNet; it must be at least 1")
    if not 0 <= config["dropout"] <= 1:
        raise UserError(f"dropout={config['dropout']} is given to the UNet; it is a probability, from 0 to 1")
    if config["num_res_blocks"] > MOST_BLOCKS:
        given = config["num_res_blocks"]
        raise UserError(f"num_res_blocks={given} is given to the UNet; it must be at most {MOST_BLOCKS}")
    size, factors, places = config["image_size"], config["channel_mult"], config["attention_resolutions"]
    if not factors or size % 2 ** (len(factors) - 1):
        raise UserError(
            f"image_size={size} and channel_mult={factors} do not fit: there must be at least one level, "
            f"and from each level to the next the size halves"
        )
    resolutions = [size >> level for level in range(len(factors))]
    if not set(places) <= set(resolutions):
        raise UserError(f"attention_resolutions={places} are given; the resolutions are {resolutions}")
    if config["qkv_order"] not in QKV_ORDERS:
        raise UserError(f"qkv_order={config['qkv_order']!r} is unknown; it is one of {', '.join(QKV_ORDERS)}")
    name = "num_heads" if config["num_head_channels"] is None else "num_head_channels"
    divisor = config[name]
    if divisor is None or (config["num_heads"] is not None and config["num_head_channels"] is not None):
        raise UserError(
            f"num_heads={config['num_heads']} and num_head_channels={config['num_head_channels']} are given; "
            "exactly one of them must be a number"
        )
    attending = [
        level for level in range(len(factors)) if resolutions[level] in places or level == len(factors) - 1
    ]
    for width in (int(factors[level] * config["model_channels"]) for level in attending):
        if divisor < 1 or width % divisor:
            raise UserError(f"{name}={divisor} does not divide the {width} channels of an attention layer")
