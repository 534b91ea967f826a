"""Small EDM pickles, written as EDM writes them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from soak.checkpoints import edm_network, edm_pickle, edm_precond, marking


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What exists once any code of a file has run."""
    return tmp_path / "ran"


@pytest.fixture
def write_edm(tmp_path: Path, marker: Path) -> Callable[..., Path]:
    """(class, state dict, arguments of the network, of the preconditioning) → the file."""

    def write(
        name: str,
        tensors: Mapping[str, Tensor],
        arguments: Mapping[str, Any],
        precond: Mapping[str, Any] | None = None,
    ) -> Path:
        source = marking(marker)
        network = edm_network(name, tensors, arguments, source)
        outer = {"img_resolution": arguments["img_resolution"], "img_channels": 3, "model_type": name}
        path = tmp_path / "network.pkl"
        path.write_bytes(edm_pickle(edm_precond(network, outer | dict(precond or {}), source), source))
        return path

    return write
