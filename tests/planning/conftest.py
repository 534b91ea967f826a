"""A tiny configuration of digits, composed as the program does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, _quieten
from fewstep.config import Config

TINY = [
    "stage=evaluate",
    "process.T=12",
    "steps=[2,4]",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "pretrain.iterations=5",
    "pretrain.batch_size=16",
    "pretrain.validate_every=2",
    "finetune=none",
    "statistics.images=6",
    "evaluation.images=10",
    "evaluation.samples=20",
    "evaluation.pictured=2",
    "evaluation.variances=[optimal]",
    "features.epochs=1",
]


@pytest.fixture(scope="session")
def configured() -> Callable[..., Config]:
    """(outputs, words, …) → a configuration."""

    def make(outputs: Path, *words: str) -> Config:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", [*TINY, f"outputs={outputs}", *words])
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        _quieten()
        return Config(**plain)

    return make
