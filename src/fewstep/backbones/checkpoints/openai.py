"""OpenAI's `.pt` files: state dicts of the UNet of improved-diffusion (Nichol & Dhariwal 2021)."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.backbones.checkpoints.tensors import is_whole, load_plain
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser, EpsParameterisation
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.provenance import shown
from fewstep.restricted_pickle import Refused
from fewstep.weights import network_of

log = logging.getLogger(__name__)

Shapes = Mapping[str, tuple[int, ...]]


def load(
    path: str,
    process: Process,
    *,
    timesteps: int,
    image_size: int,
    in_channels: int,
    out_channels: int,
    model_channels: int,
    num_classes: int | None,
    rescale_timesteps: bool,
    num_heads: int | None = None,
    num_head_channels: int | None = None,
    qkv_order: str = "heads_first",
    dropout: float = 0.0,
) -> Denoiser:
    """The denoiser in a checkpoint, in evaluation mode.

    Levels, residual blocks, attention and the kind of layers follow from the file. What it does not tell is taken
    as given; what is given although it tells guards against the wrong file.

    Args:
        path: the `.pt` file.
        process: must be the cosine process that the network was trained on.
        timesteps: T of that process.
        image_size: height and width of the images.
        in_channels: as the file tells.
        out_channels: as the file tells; 2 * in_channels for a learned variance.
        model_channels: the width of the first level, as the file tells.
        num_classes: as the file tells; None for an unconditional network.
        rescale_timesteps: the network is told timestep * 1000/T.
        num_heads: heads of every attention layer, or else
        num_head_channels: channels of every head.
        qkv_order: as in `UNet`.
        dropout: for training on.

    Raises:
        UserError: the file is damaged, of another kind, or contradicts what is given; or the process is another.
    """
    file = Path(path).expanduser()
    if process != Process.cosine(timesteps):
        raise UserError(
            f"The network in {file} was trained on {Process.cosine(timesteps)!r}; process is {process!r}, whose "
            "timesteps are other noise levels."
        )
    tensors = _read(file)
    config = {
        **structure(file, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, image_size),
        "image_size": image_size,
        "num_heads": num_heads,
        "num_head_channels": num_head_channels,
        "qkv_order": qkv_order,
        "dropout": dropout,
    }
    given = {
        "model_channels": model_channels,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "num_classes": num_classes,
    }
    _compare(file, config, given)
    network = network_of(file, tensors, lambda: UNet(**config))
    _announce(file, config, tensors)
    return Denoiser(network, process, EpsParameterisation(rescale_timesteps)).eval()


def _read(file: Path) -> dict[str, Tensor]:
    try:
        content = load_plain(file)
        if not isinstance(content, dict) or not content:
            raise Refused("is no state dict")
        for name, value in content.items():
            if not isinstance(name, str) or not is_whole(value):
                raise Refused(f"is no state dict: its entry {shown(str(name))} is not a tensor with a name")
    except Refused as error:
        raise UserError(f"The checkpoint {file} {error}; nothing in it was run.") from None
    except OSError as error:
        raise UserError(f"The checkpoint {file} cannot be read: {error.strerror or error}.") from None
    return content


def structure(file: Path, shapes: Shapes, image_size: int) -> dict[str, Any]:
    """What names and shapes of a state dict tell of the UNet's arguments.

    Raises:
        UserError: they are not of such a network.
    """
    try:
        width = shapes["time_embed.0.weight"][1]
        numbered = (re.match(r"output_blocks\.(\d{1,4})\.", name) for name in shapes)
        blocks = 1 + max(int(found[1]) for found in numbered if found)
        # The last output block of each level but the finest ends in a layer that doubles the resolution.
        ups = [_up(shapes, i) for i in range(blocks)]
        depth = next((i for i, up in enumerate(ups) if up), blocks - 1)
        firsts = [*range(0, blocks, depth + 1)][
            ::-1
        ]  # the first output block of each level, the finest level first
        widths = [shapes[f"output_blocks.{i}.0.out_layers.3.weight"][0] for i in firsts]
        attends = [f"output_blocks.{i}.1.qkv.weight" in shapes for i in firsts]
        added = shapes["middle_block.0.emb_layers.1.weight"][0]
        labels = shapes.get("label_emb.weight")
        return {
            "in_channels": shapes["input_blocks.0.0.weight"][1],
            "out_channels": shapes["out.2.weight"][0],
            "model_channels": width,
            "num_res_blocks": depth,
            "channel_mult": [each // width if each % width == 0 else each / width for each in widths],
            "attention_resolutions": [image_size >> level for level, found in enumerate(attends) if found],
            "num_classes": labels[0] if labels else None,
            "use_scale_shift_norm": added == 2 * shapes["middle_block.0.out_layers.3.weight"][0],
            "resblock_updown": ups[depth] == "in_layers.2",
        }
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        lacking = f"lacks {shown(str(error.args[0]))}" if isinstance(error, KeyError) else "has none of its layers"
        raise UserError(f"The checkpoint {file} is not of OpenAI's UNet: it {lacking}.") from None


def _up(shapes: Shapes, block: int) -> str | None:
    """The convolution of the layer that doubles the resolution at the end of an output block, if it has one."""
    for name in ("conv", "in_layers.2"):
        if any(f"output_blocks.{block}.{place}.{name}.weight" in shapes for place in (1, 2)):
            return name
    return None


def _compare(file: Path, found: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    differing = [
        f"{name} is {found[name]} in the file and {value} in the configuration"
        for name, value in given.items()
        if found[name] != value
    ]
    if differing:
        raise UserError(f"The checkpoint {file} is of another model: {', '.join(differing)}.")


def _announce(file: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    size, classes = config["image_size"], config["num_classes"]
    log.info(
        "checkpoint  %s: OpenAI's UNet, %d×%d pixels, width %d × %s, %d residual blocks, attention at %s, %s, %s "
        "parameters",
        file,
        size,
        size,
        config["model_channels"],
        config["channel_mult"],
        config["num_res_blocks"],
        config["attention_resolutions"],
        "unconditional" if classes is None else f"{classes} classes",
        f"{sum(tensor.numel() for tensor in tensors.values()):,}",
    )
