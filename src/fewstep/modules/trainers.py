"""The settings of a trainer: which of them decide numbers, and whether they can be used."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from fewstep.errors import UserError

PLACE = (
    *("_target_", "_partial_", "accelerator", "devices", "num_nodes", "strategy"),
    *("enable_model_summary", "enable_progress_bar", "use_distributed_sampler"),
)


def arithmetic_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide numbers, such as the precision, not merely where they are made."""
    return {key: value for key, value in settings.items() if key not in PLACE}


def check_trainer(trainer: Callable[..., pl.Trainer]) -> None:
    """Raise a UserError unless Lightning takes the settings behind `trainer`."""
    try:
        trainer(logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise UserError(f"The settings under trainer cannot be used: {' '.join(str(error).split())}") from None
