"""EDM's `.pkl` files (Karras et al. 2022, arXiv 2206.00364): DDPM++, NCSN++ and ADM in EDM's preconditioning."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fewstep.backbones.checkpoints.edm_adm import unet_config, unet_tensors
from fewstep.backbones.checkpoints.edm_pickle import Stored, read_edm
from fewstep.backbones.song_unet import SongUNet
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser, EdmParameterisation
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.provenance import shown
from fewstep.restricted_pickle import Refused
from fewstep.schema import check
from fewstep.weights import network_of

log = logging.getLogger(__name__)

MOST_LEVELS = 16
# What EDM's constructors take where they are not told otherwise.
COMMON = {"label_dim": 0, "augment_dim": 0, "channel_mult_emb": 4, "dropout": 0.1, "label_dropout": 0}
SONG = COMMON | {
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "num_blocks": 4,
    "attn_resolutions": [16],
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
ADM = COMMON | {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_blocks": 3,
    "attn_resolutions": [32, 16, 8],
}
REQUIRED = ("img_resolution", "in_channels", "out_channels")
NETWORKS: dict[str, Mapping[str, Any]] = {"SongUNet": SONG, "DhariwalUNet": ADM}


def load(path: str, process: Process, *, image_size: int) -> Denoiser:
    """The denoiser in an EDM pickle, in evaluation mode; nothing in the file is run.

    Network, classes and σ_data follow from what the file says its constructors were called with. Weights in half
    precision become float32; EDM's augmentation labels are zero, as they are when EDM samples.

    Args:
        path: the `.pkl` file.
        process: any whose noise levels the network was made for.
        image_size: height and width of the images, as the file tells: it guards against the wrong file.

    Raises:
        UserError: the file is damaged, of another kind, or contradicts what is given; or the process leaves the
            network's noise levels.
    """
    file = Path(path).expanduser()
    try:
        stored = read_edm(file)
        network, tensors = _network(stored)
        arguments = _arguments(network)
        _compare(file, arguments, image_size)
        _check_process(file, stored, process)
        backbone = _backbone(file, network.name, arguments, tensors)
        parameterisation = EdmParameterisation(stored.number("sigma_data"))
    except Refused as error:
        raise UserError(f"The file {file} {error}; nothing in it was run.") from None
    _announce(file, network.name, arguments, backbone)
    return Denoiser(backbone, process, parameterisation).eval()


def _network(stored: Stored) -> tuple[Stored, dict[str, Tensor]]:
    """The network inside the preconditioning, and its tensors."""
    if stored.name != "EDMPrecond":
        raise Refused(f"holds a network with the preconditioning {stored.name}, but only EDMPrecond is known")
    network = stored.section("_modules").get("model")
    if not isinstance(network, Stored) or network.name not in NETWORKS:
        name = network.name if isinstance(network, Stored) else "nothing"
        raise Refused(f"holds {name} as its network; known are {' and '.join(NETWORKS)}")
    return network, network.tensors()


def _arguments(network: Stored) -> dict[str, Any]:
    """All arguments of EDM's constructor."""
    defaults, given = NETWORKS[network.name], network.arguments
    for name in REQUIRED:
        if name not in given:
            raise Refused(f"holds a {network.name} that lacks {name}")
    unknown = sorted(given.keys() - defaults.keys() - set(REQUIRED))
    if unknown:
        raise Refused(f"holds a {network.name} made with {shown(unknown[0])}, which is not known")
    return {**defaults, **given}


def _backbone(file: Path, name: str, arguments: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    resolutions = _resolutions(name, arguments, len(tensors))
    tensors.pop("map_augment.weight", None)  # without a bias: it adds nothing to labels that are zero
    kind: type[SongUNet] | type[UNet]
    if name == "SongUNet":
        kind, config = SongUNet, _song_config(arguments, resolutions)
    else:
        kind, config = UNet, unet_config(arguments, resolutions)
        tensors = unet_tensors(tensors, config)
    try:
        check({"network": {**config, "_target_": f"{kind.__module__}.{kind.__qualname__}"}}, None)
        return network_of(file, tensors, lambda: kind(**config))
    except UserError as error:
        raise UserError(f"The file {file} does not describe a network. {error}") from None
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        raise Refused(f"does not describe a network: {shown(str(config))}") from None


def _resolutions(name: str, arguments: Mapping[str, Any], tensors: int) -> list[int]:
    """The resolution of every level of a network that has so many tensors."""
    depth, factors, places = (arguments[key] for key in ("num_blocks", "channel_mult", "attn_resolutions"))
    if type(depth) is not int or not 0 < depth <= tensors:
        raise Refused(f"holds a {name} whose num_blocks is {shown(str(depth))}, but which has {tensors} tensors")
    if not isinstance(places, list | tuple) or not isinstance(factors, list | tuple):
        raise Refused(f"holds a {name} whose channel_mult or attn_resolutions is no list")
    if len(factors) > MOST_LEVELS:
        raise Refused(f"holds a {name} of {len(factors)} levels, but networks have at most {MOST_LEVELS}")
    return [arguments["img_resolution"] >> level for level in range(len(factors))]


def _song_config(arguments: Mapping[str, Any], resolutions: list[int]) -> dict[str, Any]:
    if arguments["decoder_type"] != "standard":
        raise Refused(
            f"holds a SongUNet with the decoder {shown(str(arguments['decoder_type']))}, not the standard one"
        )
    return {
        "image_size": arguments["img_resolution"],
        "in_channels": arguments["in_channels"],
        "out_channels": arguments["out_channels"],
        "model_channels": arguments["model_channels"],
        "channel_mult": list(arguments["channel_mult"]),
        "num_res_blocks": arguments["num_blocks"],
        "attention_resolutions": [size for size in resolutions if size in arguments["attn_resolutions"]],
        "num_classes": arguments["label_dim"] or None,
        "embedding": arguments["embedding_type"],
        "noise_mult": arguments["channel_mult_noise"],
        "embedding_mult": arguments["channel_mult_emb"],
        "encoder": arguments["encoder_type"],
        "resample_filter": arguments["resample_filter"],
        "dropout": arguments["dropout"],
    }


def _compare(file: Path, arguments: Mapping[str, Any], image_size: int) -> None:
    found = arguments["img_resolution"]
    if type(found) is not int or found != image_size:
        raise UserError(
            f"The file {file} is of another model: image_size is {shown(str(found))} in the file and {image_size} "
            "in the configuration."
        )


def _check_process(file: Path, stored: Stored, process: Process) -> None:
    smallest, largest = (process.noise_level(process.grid[i]).item() for i in (1, -1))
    low, high = stored.number("sigma_min"), stored.number("sigma_max")
    if not low <= smallest <= largest <= high:
        raise UserError(
            f"The network in {file} is made for noise levels from {low} to {high}; those of {process!r} go from "
            f"{smallest:.6g} to {largest:.6g}."
        )


def _announce(file: Path, name: str, arguments: Mapping[str, Any], backbone: nn.Module) -> None:
    size, classes = arguments["img_resolution"], arguments["label_dim"]
    if name == "DhariwalUNet":
        name = "ADM"
    elif name == "SongUNet":
        name = "NCSN++" if arguments["encoder_type"] == "residual" else "DDPM++"
    log.info(
        "checkpoint  %s: EDM's %s, %d×%d pixels, width %d × %s, %d residual blocks, %s, %s parameters",
        file,
        name,
        size,
        size,
        arguments["model_channels"],
        list(arguments["channel_mult"]),
        arguments["num_blocks"],
        f"{classes} classes" if classes else "unconditional",
        f"{sum(parameter.numel() for parameter in backbone.parameters()):,}",
    )
