"""A model on disk: `weights.safetensors` for its tensors and `model.yaml` for everything else."""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.denoiser import PARAMETERISATIONS, Denoiser
from fewstep.errors import UserError
from fewstep.files import write_atomically
from fewstep.process import Process
from fewstep.schema import check

WEIGHTS, MODEL = "weights.safetensors", "model.yaml"
BACKBONES = "fewstep.backbones."

Network = TypeVar("Network", bound=nn.Module)


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
    if denoiser.channels_last:
        model["channels_last"] = True
    if denoiser.compile_backend is not None:
        model["compile"] = denoiser.compile_backend
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
        backbone_class, config = _backbone_class(model["backbone"]), model["config"]
        _check_sizes(config, model["shape"])
        arguments = dict(model["parameterisation"])
        parameterisation_class = PARAMETERISATIONS[arguments.pop("name")]
        check({"config": {**config, "_target_": model["backbone"]}}, None)
        check({"parameterisation": {**arguments, "_target_": _dotted(parameterisation_class)}}, None)
        parameterisation = parameterisation_class(**arguments)
        process = Process.from_definition(model["process"])
        with torch.device("meta"):
            outline = backbone_class(**config)
    except UserError as error:
        raise UserError(f"The model file {folder / MODEL} does not describe a model. {error}") from None
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"The model file {folder / MODEL} does not describe a model: {error}.") from None
    # Compared before it is made: a damaged model file may describe one that no memory holds.
    _check_names_and_shapes(folder / WEIGHTS, outline)
    backbone = backbone_class(**config)
    load_weights(folder / WEIGHTS, backbone)
    try:
        return Denoiser(backbone, process, parameterisation, *_running(model)).eval()
    except UserError as error:
        raise UserError(f"The model file {folder / MODEL} does not describe a model. {error}") from None


def _running(model: Mapping[str, Any]) -> tuple[bool, str | None]:
    """How the network is run, as far as its file says: `channels_last` and `compile` of the denoiser."""
    channels_last, backend = model.get("channels_last", False), model.get("compile")
    if not isinstance(channels_last, bool) or not isinstance(backend, str | None):
        raise UserError("Its channels_last must be true or false, and its compile the name of a backend.")
    return channels_last, backend


def read_model(folder: Path) -> dict[str, Any]:
    """The content of a folder's `model.yaml`."""
    path = folder / MODEL
    try:
        model = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise UserError(f"The model file {path} cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # the parser lets through whatever a number, a date or deep nesting raises
        raise UserError(f"The model file {path} is not valid YAML: {error}.") from None
    if not isinstance(model, dict):
        raise UserError(f"The model file {path} does not describe a model.")
    shape, levels = model.get("shape"), model.get("levels")
    if not isinstance(shape, list) or len(shape) != 3 or not all(_is_whole(size, 1) for size in shape):
        raise UserError(f"The model file {path} must give its images' shape as a list of C, H and W.")
    if not _is_whole(levels, 2):
        raise UserError(f"The model file {path} must give levels, a whole number of grey levels from 2 on.")
    return model


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, with which few lines can stand for more values than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*) are not allowed in it")
        return super().compose_node(parent, index)


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
    check_tensors(path, tensors, network.state_dict())
    network.load_state_dict(tensors)


def check_tensors(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise a UserError unless tensors of a file have a network's names, shapes and kinds, and are finite."""
    _refuse(path, sorted(_misfits(expected, {name: list(tensor.shape) for name, tensor in tensors.items()})))
    faults = []
    for name, tensor in sorted(tensors.items()):
        if not _same_kind(tensor, expected[name]):
            faults.append(f"{name} holds {tensor.dtype} instead of {expected[name].dtype}")
        elif not tensor.isfinite().all():
            faults.append(f"{name} holds NaN or infinity")
    _refuse(path, faults)


def weights_digest(denoiser: Denoiser) -> str:
    """The SHA-256 of a network's tensors, wherever they lie.

    Empty where nothing can be told by them: a plain function has none, and those in half precision are rounded.
    """
    network = denoiser.backbone
    tensors = network.state_dict() if isinstance(network, nn.Module) else {}
    if not tensors or any(tensor.is_floating_point() and tensor.dtype.itemsize < 4 for tensor in tensors.values()):
        return ""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def network_of(path: Path, tensors: Mapping[str, Tensor], make: Callable[[], Network]) -> Network:
    """The network that `make` makes with the tensors of a file, strictly, in float32 and evaluation mode.

    Raises:
        UserError: as `load_weights`; before a network that the tensors do not fit takes any memory.
    """
    with torch.device("meta"):
        network = make()
    check_tensors(path, tensors, network.state_dict())
    network.to_empty(device="cpu").load_state_dict(tensors)
    return network.eval()


def _check_names_and_shapes(path: Path, network: nn.Module) -> None:
    """As `load_weights` checks them, from the file's header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights {path} cannot be read: {error}.") from None
    _refuse(path, _misfits(network.state_dict(), shapes))


def _misfits(expected: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> list[str]:
    faults = [f"{name} is missing" for name in expected if name not in shapes]
    faults += [f"{name} is not of this model" for name in shapes if name not in expected]
    faults += [
        f"{name} has shape {shapes[name]} instead of {list(expected[name].shape)}"
        for name in expected
        if name in shapes and shapes[name] != list(expected[name].shape)
    ]
    return faults


def _same_kind(given: Tensor, expected: Tensor) -> bool:
    """Whether both hold real numbers, or both whole ones; 8-bit floats need scales that no file of ours has."""
    real = given.is_floating_point() and given.dtype.itemsize > 1
    return real == expected.is_floating_point() and not given.is_complex()


def _refuse(path: Path, faults: Sequence[str]) -> None:
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"The weights {path} do not fit the model: {'; '.join(faults[:3])}{more}.")


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


def _check_sizes(config: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise unless a backbone takes images of the model's shape; its tensors do not tell the image's size."""
    if not isinstance(config, dict):
        raise UserError(f"Its config is {config!r}, but must be a section of settings.")
    for name, size in (("in_channels", shape[0]), ("image_size", shape[1])):
        if config.get(name, size) != size:
            raise UserError(f"Its config.{name} is {config[name]!r}, but its shape is {list(shape)}.")


def _dotted(found: Callable[..., Any]) -> str:
    return f"{found.__module__}.{found.__qualname__}"


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
