"""What artefacts of a model are tested with: a small model, and trainers that may or may not be asked for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl


@pytest.fixture(scope="module")
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, save_small_model: Callable[..., Path]
) -> Path:
    """The folder of a small model with the PROCESS of the test file."""
    return save_small_model(tmp_path_factory.mktemp("weights"), request.module.PROCESS)


@pytest.fixture
def trainer() -> Callable[..., pl.Trainer]:
    """On the CPU, and silent."""
    return partial(
        pl.Trainer,
        accelerator="cpu",
        devices=1,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )


@pytest.fixture
def no_trainer() -> Callable[..., pl.Trainer]:
    """Nothing is computed with it."""

    def refuse(**_: Any) -> pl.Trainer:
        raise AssertionError("computed again")

    return refuse
