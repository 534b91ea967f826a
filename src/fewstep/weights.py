"""A model on disk: `weights.safetensors` for its tensors and `model.yaml` for everything else."""

import importlib
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fewstep.denoiser import PARAMETERISATIONS, Denoiser
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.process import Process

WEIGHTS, MODEL = "weights.safetensors", "model.yaml"
BACKBONES = "fewstep.backbones."


def save_model(folder: Path, denoiser: Denoiser, shape: tuple[int, int, int], levels: int) -> None:
    """Write a denoiser whose backbone states its constructor's arguments in `config`.

    Args:
        folder: where the two files go.
        denoiser: the model.
        shape: (C, H, W) of its images.
        levels: grey levels of its images.
    """
    backbone = denoiser.backbone
    if not isinstance(backbone, nn.Module) or not hasattr(backbone, "config"):
        raise UserError(
            f"A backbone of type {type(backbone).__name__} does not state its config and cannot be saved."
        )
    parameterisation = denoiser.parameterisation
    model = {
        "backbone": f"{type(backbone).__module__}.{type(backbone).__qualname__}",
        "config": backbone.config,
        "parameterisation": {"name": parameterisation.name, **vars(parameterisation)},
        "process": denoiser.process.definition,
        "shape": list(shape),
        "levels": levels,
    }
    save_weights(folder / WEIGHTS, backbone)
    write_atomically(folder / MODEL, yaml.safe_dump(model, sort_keys=False))


def load_model(folder: Path | str) -> Denoiser:
    """The denoiser that `save_model` wrote, in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the model.
    """
    folder = Path(folder)
    model = read_model(folder)
    try:
        backbone = _backbone_class(model["backbone"])(**model["config"])
        arguments = dict(model["parameterisation"])
        parameterisation = PARAMETERISATIONS[arguments.pop("name")](**arguments)
        process = Process.from_definition(model["process"])
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The model file {folder / MODEL} does not describe a model: {error}.") from None
    load_weights(folder / WEIGHTS, backbone)
    return Denoiser(backbone, process, parameterisation).eval()


def read_model(folder: Path) -> dict[str, Any]:
    """The content of a folder's `model.yaml`."""
    path = folder / MODEL
    try:
        model = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The model file {path} cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The model file {path} is not valid YAML: {error}.") from None
    if not isinstance(model, dict):
        raise UserError(f"The model file {path} does not describe a model.")
    return model


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's tensors as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(tensors, temporary))


def load_weights(path: Path, network: nn.Module) -> None:
    """Load safetensors strictly into a network.

    Raises:
        UserError: the file is missing or damaged, or a key is missing, extra, misshaped or not finite.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights {path} cannot be read: {error}.") from None
    expected = network.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} is not of this model" for name in tensors if name not in expected]
    faults += [
        f"{name} has shape {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    faults += [f"{name} holds NaN or infinity" for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"The weights {path} do not fit the model: {'; '.join(faults[:3])}{more}.")
    network.load_state_dict(tensors)


def _backbone_class(path: str) -> type[nn.Module]:
    """The class at a dotted path inside fewstep.backbones, and nowhere else: a model file names no other code."""
    module, _, name = str(path).rpartition(".")
    if not module.startswith(BACKBONES):
        raise UserError(f"A model file may name only classes of {BACKBONES[:-1]}; given was {path!r}.")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise UserError(f"There is no backbone {path!r}.") from None
    return found
