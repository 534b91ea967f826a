"""A model that diffusers saved: a UNet2DModel and its scheduler, from a folder or from the Hugging Face hub."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.diffusers_scheduler import read_scheduler
from fewstep.backbones.diffusers_unet import DiffusersUNet, diffusers_library
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process

log = logging.getLogger(__name__)

MODEL, SCHEDULER, WEIGHTS = "config.json", "scheduler_config.json", "diffusion_pytorch_model"
FROM_HUB = (
    *(MODEL, SCHEDULER, f"{WEIGHTS}.*"),
    *(f"unet/{MODEL}", f"unet/{WEIGHTS}.*", f"scheduler/{SCHEDULER}"),
)


def load_diffusers(path: str, process: Process | None = None, hub: bool = False) -> Denoiser:
    """The denoiser in a folder that diffusers wrote, in evaluation mode, on the CPU.

    The folder has `config.json`, `diffusion_pytorch_model.safetensors` (or the older `.bin`, of which only tensors
    are read) and `scheduler_config.json`, or the subfolders `unet` and `scheduler` have them.

    Args:
        path: the folder, or a name such as google/ddpm-cifar10-32 where `hub` is true.
        process: the process that the model is expected to have; None for the model's own, whatever it is.
        hub: fetch `path` from the Hugging Face hub, or from its cache on this machine.

    Raises:
        UserError: files that are missing or damaged, a model or scheduler that is not known here, weights that do
            not fit, or another process than the one expected.
    """
    folder = _from_hub(path) if hub else Path(path)
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {path}; to fetch a model of that name from the Hugging Face hub, set "
            "model.hub=true."
        )
    unet, scheduler = _place(folder, "unet", MODEL), _place(folder, "scheduler", SCHEDULER)
    try:
        network = _network(unet)
        learned_variance = network.config["out_channels"] == 2 * network.config["in_channels"]
        own, parameterisation = read_scheduler(_read(scheduler / SCHEDULER), learned_variance)
        denoiser = Denoiser(network, own, parameterisation).eval()
    except UserError as error:
        raise UserError(f"The diffusers model {path} cannot be used. {error}") from None
    if process is not None and process != own:
        raise UserError(
            f"The diffusers model {path} was trained on {own!r}, but process is {process!r}; set "
            f"{_overrides(own)}."
        )
    return denoiser


def _network(folder: Path) -> DiffusersUNet:
    """The network of a folder, with its weights, every one of them."""
    config = dict(_read(folder / MODEL))
    if config.pop("_class_name", None) != "UNet2DModel":
        raise UserError(
            f"{folder / MODEL} describes a {_read(folder / MODEL).get('_class_name')}, no UNet2DModel."
        )
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    size, channels = _square(config.pop("sample_size", None)), config.pop("in_channels", 3)
    network = DiffusersUNet(size, channels, config.pop("out_channels", 3), config)
    safetensors = any(folder.glob(f"{WEIGHTS}*.safetensors*"))
    try:
        loaded, report = diffusers_library().UNet2DModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=safetensors,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"The weights in {folder} cannot be loaded: {error}") from None
    faults = [f"{kind.removesuffix('_keys')} {name}" for kind, names in report.items() for name in names]
    if faults:
        raise UserError(f"The weights in {folder} do not fit the model: {'; '.join(faults[:3])}.")
    wrong = next((name for name, tensor in loaded.state_dict().items() if not tensor.isfinite().all()), None)
    if wrong is not None:
        raise UserError(f"The weights in {folder} hold NaN or infinity, in {wrong}.")
    network.unet = loaded.to(torch.float32)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    log.info(
        "diffusers   UNet2DModel: %d×%d×%d, %s parameters, %s", channels, size, size, f"{parameters:,}", folder
    )
    return network


def _square(size: Any) -> int:
    """One number: H = W."""
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not isinstance(height, int) or height != width:
        raise UserError(f"The network's sample_size is {size!r}, but must be one whole number, H = W.")
    return height


def _place(folder: Path, subfolder: str, name: str) -> Path:
    """The folder of a file: the subfolder that a pipeline keeps it in, or the folder itself."""
    for place in (folder / subfolder, folder):
        if (place / name).is_file():
            return place
    raise UserError(f"The folder {folder} has no {name}, nor {subfolder}/{name}; diffusers models have both.")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object.")
    return content


def _from_hub(name: str) -> Path:
    diffusers_library()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FROM_HUB)))
    except Exception as error:  # of the network, the name, the server, the disk: each library has its own
        raise UserError(f"The model {name} cannot be fetched from the Hugging Face hub: {error}") from None


def _overrides(process: Process) -> str:
    """What sets the group `process` to it on the command line."""
    arguments = {key: value for key, value in process.definition.items() if key != "name"}
    values = {key: "null" if value is None else str(value).lower() for key, value in arguments.items()}
    return " ".join([f"process={process.name}", *(f"process.{key}={value}" for key, value in values.items())])
