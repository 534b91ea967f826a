"""Checkpoints in the formats that they are published in, with source code in them that must never run."""

import contextlib
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BUFFERS = ("resample_filter", "freqs")


def _reconstruct_persistent_obj(meta: Mapping[str, Any]) -> object:
    """As the original does in effect: the source in the file is run."""
    exec(meta["module_src"], {})
    return meta


class EasyDict(dict[str, Any]):
    """A dictionary by another name."""


class Persistent:
    """An object as `torch_utils.persistence` pickles it."""

    def __init__(self, name: str, source: str, attributes: Mapping[str, Any]) -> None:
        self.name, self.source, self.attributes = name, source, dict(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.name,
            "state": self.attributes,
        }
        return _reconstruct_persistent_obj, (meta,), None


@contextlib.contextmanager
def edm_namespace() -> Iterator[None]:
    """Pickles name EDM's modules while the block lasts, and find them."""
    homes = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}
    before = {found: found.__module__ for found in homes.values()}
    for name, found in homes.items():
        package = name.partition(".")[0]
        sys.modules[package], sys.modules[name] = types.ModuleType(package), types.ModuleType(name)
        setattr(sys.modules[name], found.__name__, found)
        found.__module__ = name
    try:
        yield
    finally:
        for found, module in before.items():
            found.__module__ = module
        for name in homes:
            del sys.modules[name], sys.modules[name.partition(".")[0]]


def edm_network(name: str, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any], source: str) -> Persistent:
    """A network of EDM's from its state dict."""
    tree: dict[str, Any] = {}
    for key, tensor in tensors.items():
        *folders, leaf = key.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = tensor
    network = _module(name, tree, source)
    network.attributes |= {"_init_args": (), "_init_kwargs": dict(arguments)}
    return network


def edm_precond(network: Any, arguments: Mapping[str, Any], source: str, name: str = "EDMPrecond") -> Persistent:
    """EDM's preconditioning around a network."""
    whole = {"use_fp16": False, "sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5} | dict(arguments)
    outer = _module(name, {}, source)
    outer.attributes["_modules"] = {"model": network}
    outer.attributes |= whole | {"_init_args": (), "_init_kwargs": dict(arguments)}
    return outer


def edm_pickle(ema: Any, source: str, protocol: int = 4) -> bytes:
    """The file that EDM's training loop writes."""
    content = {
        "ema": ema,
        "loss_fn": Persistent("EDMLoss", source, {"P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5}),
        "augment_pipe": Persistent("AugmentPipe", source, {"p": 0.12, "xflip": 1e8}),
        "dataset_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", use_labels=False),
    }
    with edm_namespace():
        return pickle.dumps(content, protocol)


def marking(marker: Path) -> str:
    """Source code that leaves a file."""
    return f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"


def _module(name: str, tree: Mapping[str, Any], source: str) -> Persistent:
    attributes = vars(nn.Module()) | {"training": False, "skip_scale": np.sqrt(0.5), "init": {"init_mode": "x"}}
    attributes["_parameters"], attributes["_buffers"], attributes["_modules"] = {"bias": None}, {}, {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            kept = value if key in BUFFERS else nn.Parameter(value, requires_grad=False)
            attributes["_buffers" if key in BUFFERS else "_parameters"][key] = kept
        elif key in ("enc", "dec"):
            container = nn.ModuleDict()
            container._modules = {child: _module("UNetBlock", below, source) for child, below in value.items()}
            attributes["_modules"][key] = container
        else:
            attributes["_modules"][key] = _module("Layer", value, source)
    return Persistent(name, source, attributes)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random weights of which no layer hides another; normalisations' are near 1."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in shapes.items():
        draw = torch.randn(shape, generator=generator, dtype=torch.float64)
        fan_in = draw[0].numel()
        found[name] = (draw / fan_in**0.5 if draw.ndim > 1 else 0.3 * draw + ("norm" in name)).to(dtype)
    return found
