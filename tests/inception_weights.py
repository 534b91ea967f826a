"""The file `weights-inception-2015-12-05-6726825d.pth` in its published layout, with random numbers in it."""

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

LAYOUT = Path(__file__).with_name("inception_layout.txt")  # the 94 convolutions: name, output × input × kernel
REFERENCE = Path(sys.prefix) / "reference"  # where `make test` installs torch-fidelity, out of torchmetrics' sight


@cache
def random_weights() -> dict[str, Tensor]:
    """For every convolution its weight and four vectors of its normalisation, then 1008 classes."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for line in LAYOUT.read_text().splitlines():
        name, shape = line.split()
        out, *fan = map(int, shape.split("x"))
        gain = (2 / torch.tensor(fan).prod().item()) ** 0.5  # He et al. 2015: activations neither vanish nor grow
        tensors[f"{name}.conv.weight"] = torch.randn(out, *fan, generator=generator) * gain
        tensors[f"{name}.bn.weight"] = torch.ones(out)
        tensors[f"{name}.bn.bias"] = torch.randn(out, generator=generator) / 10
        tensors[f"{name}.bn.running_mean"] = torch.randn(out, generator=generator) / 10
        tensors[f"{name}.bn.running_var"] = torch.rand(out, generator=generator) + 0.5
    tensors["fc.weight"] = torch.randn(1008, 2048, generator=generator) / 45
    tensors["fc.bias"] = torch.zeros(1008)
    return tensors


def torch_fidelity(module: str) -> Any:
    """A module of torch-fidelity; skips the test where it is not installed.

    Its package imports all of torchvision for other networks, so that it is entered without its `__init__`.
    """
    sys.path.insert(0, str(REFERENCE))
    try:
        found = importlib.util.find_spec("torch_fidelity")
        if found is None:
            pytest.skip(f"torch-fidelity is neither in {REFERENCE} nor installed")
        sys.modules["torch_fidelity"] = importlib.util.module_from_spec(found)
        return importlib.import_module(f"torch_fidelity.{module}")
    finally:
        sys.path.remove(str(REFERENCE))
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
            del sys.modules[name]
