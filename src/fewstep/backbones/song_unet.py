"""DDPM++ and NCSN++, the UNets of Song et al. 2021 (arXiv 2011.13456) in the form of Karras et al. 2022.

Parameter names are those of EDM's checkpoints (arXiv 2206.00364), so that their weights load strictly. EDM's
augmentation labels are zero when images are sampled and add nothing; there is no layer for them here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.backbones.blocks import GroupNorm, check_input, zero
from fewstep.backbones.song_blocks import (
    EPS,
    GROUPS,
    SKIP_SCALE,
    Block,
    ConvHalved,
    DoubledConv,
    FourierEmbedding,
    HalvedConv,
    PositionalEmbedding,
    Resampled,
)
from fewstep.backbones.unet import MOST_BLOCKS
from fewstep.errors import UserError

EMBEDDINGS = {"positional": PositionalEmbedding, "fourier": FourierEmbedding}
ENCODERS = ("standard", "residual")


class SongUNet(nn.Module):
    """A UNet whose sums are scaled by √½, conditioned on a noise level and, where it has classes, on a label.

    DDPM++ has a positional embedding, the standard encoder and the filter [1, 1]; NCSN++ a Fourier embedding twice
    as wide, the residual encoder and the filter [1, 3, 3, 1]. On the way down attention follows every block at the
    resolutions of `attention_resolutions`, on the way up the last one of each, and it stands in the middle.

    Args:
        image_size: height and width of the images, in pixels.
        in_channels: channels of the input.
        out_channels: channels of the output.
        model_channels: width; level i has channel_mult[i] * model_channels channels.
        channel_mult: one factor for each level; the resolution halves from each level to the next.
        num_res_blocks: residual blocks of a level on the way down; one more on the way up.
        attention_resolutions: in pixels.
        num_classes: number of labels; None for an unconditional network.
        embedding: of the noise level, "positional" or "fourier".
        noise_mult: the embedding of the noise level has noise_mult * model_channels channels.
        embedding_mult: what the blocks get has embedding_mult * model_channels channels.
        encoder: "standard", or "residual" with the image beside the features at every level.
        resample_filter: weights of the filter for other resolutions, along an axis; an even number of them.
        dropout: probability, before the second convolution of a block.

    Attributes:
        config: the arguments, sequences as lists; SongUNet(**config) has the same structure.
        num_classes: as given.

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
        channel_mult: Sequence[int],
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        num_classes: int | None = None,
        embedding: str = "positional",
        noise_mult: int = 1,
        embedding_mult: int = 4,
        encoder: str = "standard",
        resample_filter: Sequence[float] = (1, 1),
        dropout: float = 0.0,
    ) -> None:
        channel_mult, attention_resolutions = list(channel_mult), list(attention_resolutions)
        resample_filter = list(resample_filter)
        config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.config: dict[str, Any] = config
        self.num_classes = num_classes
        _check(config)
        noise_width, width = noise_mult * model_channels, embedding_mult * model_channels
        self.map_noise = EMBEDDINGS[embedding](noise_width)
        if num_classes is not None:
            self.map_label = nn.Linear(num_classes, noise_width)
        self.map_layer0 = nn.Linear(noise_width, width)
        self.map_layer1 = nn.Linear(width, width)
        self.enc, skips = self._way_down()
        self.dec = self._way_up(skips)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        """Run the network on x [B, C, H, W] at c_noise = ln(σ)/4 [B], with labels int64 [B].

        Returns [B, out_channels, H, W] in the dtype of x; inside, the weights' dtype or autocast decides.

        Raises:
            UserError: a shape is wrong, or a label is missing or not wanted.
        """
        check_input("network", self.config, x, time, label)
        dtype = self.map_layer0.weight.dtype
        embedding = self._embedding(time, label, dtype)
        h, skips = self._encode(x.to(dtype), embedding)
        for name, layer in self.dec.items():
            if isinstance(layer, Block):
                h = layer(torch.cat([h, skips.pop()], dim=1) if "_block" in name else h, embedding)
        size = self.config["image_size"]
        normalise, convolve = (self.dec[f"{size}x{size}_aux_{layer}"] for layer in ("norm", "conv"))
        return convolve(F.silu(normalise(h))).to(x.dtype)

    def _embedding(self, time: Tensor, label: Tensor | None, dtype: torch.dtype) -> Tensor:
        embedding = self.map_noise(time.to(torch.promote_types(dtype, torch.float32))).to(dtype)
        if label is not None:
            classes = self.map_label.in_features
            embedding = embedding + self.map_label(math.sqrt(classes) * F.one_hot(label, classes).to(dtype))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))))

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features at the lowest resolution, and what every layer leaves for its skip connection."""
        skips: list[Tensor] = []
        h, beside = x, x
        for layer in self.enc.values():
            if isinstance(layer, ConvHalved):
                h = skips[-1] = beside = (h + layer(beside)) * SKIP_SCALE
                continue
            h = layer(h, embedding) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        return h, skips

    def _way_down(self) -> tuple[nn.ModuleDict, list[int]]:
        """Build the layers on the way down, and list the channels that each leaves for its skip connection."""
        c = self.config
        width, beside = c["model_channels"], c["in_channels"]
        layers: dict[str, nn.Module] = {}
        skips = [width]
        for level, mult in enumerate(c["channel_mult"]):
            place = self._place(level)
            if level == 0:
                layers[f"{place}_conv"] = nn.Conv2d(c["in_channels"], width, 3, padding=1)
            else:
                layers[f"{place}_down"] = self._block(width, width, resampling=HalvedConv)
                if c["encoder"] == "residual":
                    layers[f"{place}_aux_residual"] = ConvHalved(beside, width, 3, c["resample_filter"])
                    beside = width
                skips.append(width)
            for i in range(c["num_res_blocks"]):
                layers[f"{place}_block{i}"] = self._block(
                    width, mult * c["model_channels"], attends=self._attends(level)
                )
                width = mult * c["model_channels"]
                skips.append(width)
        return nn.ModuleDict(layers), skips

    def _way_up(self, skips: list[int]) -> nn.ModuleDict:
        """Build the middle and the layers on the way up; a block also takes the last of `skips`."""
        c = self.config
        width, levels = skips[-1], len(c["channel_mult"])
        layers: dict[str, nn.Module] = {}
        for level, mult in reversed(list(enumerate(c["channel_mult"]))):
            place = self._place(level)
            if level == levels - 1:
                layers[f"{place}_in0"] = self._block(width, width, attends=True)
                layers[f"{place}_in1"] = self._block(width, width)
            else:
                layers[f"{place}_up"] = self._block(width, width, resampling=DoubledConv)
            for i in range(c["num_res_blocks"] + 1):
                attends = i == c["num_res_blocks"] and self._attends(level)
                layers[f"{place}_block{i}"] = self._block(
                    width + skips.pop(), mult * c["model_channels"], attends=attends
                )
                width = mult * c["model_channels"]
        layers[f"{place}_aux_norm"] = GroupNorm(GROUPS, width, EPS)
        layers[f"{place}_aux_conv"] = zero(nn.Conv2d(width, c["out_channels"], 3, padding=1))
        return nn.ModuleDict(layers)

    def _block(
        self, channels: int, width: int, *, attends: bool = False, resampling: type[Resampled] | None = None
    ) -> Block:
        return Block(
            channels,
            width,
            embedding=self.config["embedding_mult"] * self.config["model_channels"],
            dropout=self.config["dropout"],
            attends=attends,
            resampling=resampling,
            taps=self.config["resample_filter"],
        )

    def _place(self, level: int) -> str:
        size = self.config["image_size"] >> level
        return f"{size}x{size}"

    def _attends(self, level: int) -> bool:
        return self.config["image_size"] >> level in self.config["attention_resolutions"]


def _check(config: dict[str, Any]) -> None:
    """Raise UserError where the arguments of a SongUNet do not fit each other."""
    whole = ("image_size", "in_channels", "out_channels", "model_channels", "num_res_blocks", "noise_mult")
    for name in (*whole, "embedding_mult"):
        if config[name] < 1:
            raise UserError(f"{name}={config[name]} is given to the network; it must be at least 1")
    if config["num_classes"] is not None and config["num_classes"] < 1:
        raise UserError(f"num_classes={config['num_classes']} is given to the network; it must be at least 1")
    if not 0 <= config["dropout"] <= 1:
        raise UserError(f"dropout={config['dropout']} is given to the network; it is a probability, from 0 to 1")
    if config["num_res_blocks"] > MOST_BLOCKS:
        given = config["num_res_blocks"]
        raise UserError(f"num_res_blocks={given} is given to the network; it must be at most {MOST_BLOCKS}")
    size, factors, taps = config["image_size"], config["channel_mult"], config["resample_filter"]
    if not factors or min(factors) < 1 or size % 2 ** (len(factors) - 1):
        raise UserError(
            f"image_size={size} and channel_mult={factors} do not fit: there must be at least one level, of a "
            "factor from 1 on, and from each level to the next the size halves"
        )
    resolutions = [size >> level for level in range(len(factors))]
    if not set(config["attention_resolutions"]) <= set(resolutions):
        given = config["attention_resolutions"]
        raise UserError(f"attention_resolutions={given} are given; the resolutions are {resolutions}")
    if not taps or len(taps) % 2 or min(taps) < 0 or not 0 < sum(taps) < math.inf:
        raise UserError(
            f"resample_filter={taps} is given to the network; it is an even number of weights from 0 on"
        )
    for name, allowed in (("embedding", EMBEDDINGS), ("encoder", ENCODERS)):
        if config[name] not in allowed:
            raise UserError(f"{name}={config[name]!r} is unknown; it is one of {', '.join(allowed)}")
    width = config["noise_mult"] * config["model_channels"]
    if width < 4 or width % 2:
        raise UserError(f"noise_mult * model_channels is {width}, but must be even, and at least 4")
