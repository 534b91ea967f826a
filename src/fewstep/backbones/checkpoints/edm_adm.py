"""EDM's ADM (Karras et al. 2022, table 7) as OpenAI's UNet: the same network under other names.

The embedding passes through its SiLU once in EDM and in every block at OpenAI's; 1×1 convolutions of pixels are
those of a row; a linear layer without a bias of a one-hot label is an embedding.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fewstep.provenance import shown
from fewstep.restricted_pickle import Refused

# Residual and attention blocks stand one after the other: `name.0` and `name.1`.
RESIDUAL = {
    "norm0": "in_layers.0",
    "conv0": "in_layers.2",
    "affine": "emb_layers.1",
    "norm1": "out_layers.0",
    "conv1": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}
ENDS = {"map_layer0": "time_embed.0", "map_layer1": "time_embed.2", "out_norm": "out.0", "out_conv": "out.2"}
BOX = 0.25  # what the filter for other resolutions gives each of 2×2 pixels


def unet_config(arguments: Mapping[str, Any], resolutions: list[int]) -> dict[str, Any]:
    """EDM's arguments, completed, as the UNet's."""
    if arguments["channel_mult_emb"] != 4:
        raise Refused(
            f"has an ADM with channel_mult_emb {shown(str(arguments['channel_mult_emb']))}, but only 4 is known"
        )
    return {
        "image_size": arguments["img_resolution"],
        "in_channels": arguments["in_channels"],
        "out_channels": arguments["out_channels"],
        "model_channels": arguments["model_channels"],
        "num_res_blocks": arguments["num_blocks"],
        "channel_mult": list(arguments["channel_mult"]),
        "attention_resolutions": [size for size in resolutions if size in arguments["attn_resolutions"]],
        "num_head_channels": 64,
        "num_classes": arguments["label_dim"] or None,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "dropout": arguments["dropout"],
        "qkv_order": "interleaved",
    }


def unet_tensors(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """EDM's tensors under the UNet's names; one that has no place in it keeps its own."""
    places = _places(config)
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "resample_filter":
            if tensor.shape != (1, 1, 2, 2) or not bool((tensor == BOX).all()):
                raise Refused(f"has an ADM whose filter {shown(name)} is not the mean of 2×2 pixels")
        elif name == "map_label.weight" and tensor.ndim == 2:
            renamed["label_emb.weight"] = tensor.T
        elif layer in ENDS:
            renamed[f"{ENDS[layer]}.{kind}"] = tensor
        elif layer in places:  # the first convolution, alone in its place
            renamed[f"{places[layer]}.{kind}"] = tensor
        else:
            block, _, part = layer.rpartition(".")
            new = f"{_part(places.get(block), part)}.{kind}"
            attends = part in ATTENTION and tensor.ndim == 4
            renamed[name if block not in places else new] = tensor.flatten(2) if attends else tensor
    return renamed


def _part(place: str | None, part: str) -> str:
    """Where a part of a block stands, given where its residual block does."""
    if place is None:
        return part
    if part in ATTENTION:
        return f"{place[:-1]}1.{ATTENTION[part]}"
    return f"{place}.{RESIDUAL.get(part, part)}"


def _places(config: Mapping[str, Any]) -> dict[str, str]:
    """EDM's blocks → the UNet's residual blocks."""
    depth, levels = config["num_res_blocks"], len(config["channel_mult"])
    sizes = [config["image_size"] >> level for level in range(levels)]
    down: list[str] = []
    for level, size in enumerate(sizes):
        down.append(f"enc.{size}x{size}_{'down' if level else 'conv'}")
        down += [f"enc.{size}x{size}_block{i}" for i in range(depth)]
    places = {name: f"input_blocks.{i}.0" for i, name in enumerate(down)}
    lowest = sizes[-1]
    places |= {f"dec.{lowest}x{lowest}_in0": "middle_block.0", f"dec.{lowest}x{lowest}_in1": "middle_block.2"}
    index = 0
    for level, size in reversed(list(enumerate(sizes))):
        if level < levels - 1:  # doubling ends the last block of the level below, after its attention
            attends = sizes[level + 1] in config["attention_resolutions"]
            places[f"dec.{size}x{size}_up"] = f"output_blocks.{index - 1}.{1 + attends}"
        for i in range(depth + 1):
            places[f"dec.{size}x{size}_block{i}"] = f"output_blocks.{index}.0"
            index += 1
    return places
