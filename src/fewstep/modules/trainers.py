"""A trainer's settings: which of them decide numbers, and the precision that networks run in under it.

Likelihoods, samples' states, losses, averaged weights and the judge's features keep types of their own, float64 or
float32, in whatever precision the network runs. Lightning's mixed precisions fit that, as autocast leaves float64
alone. Its half precisions do not: they turn whole modules, drawn times and sums of metrics into bfloat16, and set
torch's default type for all threads. `HalfNetwork` turns the network alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.plugins.precision import HalfPrecision, Precision
from torch import nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError

MakeTrainer = Callable[..., pl.Trainer]
FLOAT32 = "32-true"
PLACE = (
    *("_target_", "_partial_", "accelerator", "devices", "num_nodes", "strategy"),
    *("enable_model_summary", "enable_progress_bar", "use_distributed_sampler"),
)


def arithmetic_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide numbers, such as the precision, not merely where they are made."""
    return {key: value for key, value in settings.items() if key not in PLACE}


def precision_of(arithmetic: Mapping[str, Any]) -> str:
    """The precision that networks run in, by Lightning's name for it: `32-true` where none is set."""
    given = arithmetic.get("precision")
    return FLOAT32 if given in (None, 32, "32", FLOAT32) else str(given)


class HalfNetwork(Precision):
    """`bf16-true` and `16-true`: a module's network has weights of this type, and all else keeps its own.

    Args:
        precision: Lightning's name.
    """

    def __init__(self, precision: Any) -> None:
        self.precision = precision
        self.dtype = torch.bfloat16 if precision == "bf16-true" else torch.float16

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Convert the weights of a denoiser, the module itself or its own, where it has one."""
        denoiser = module if isinstance(module, Denoiser) else getattr(module, "denoiser", None)
        if isinstance(denoiser, Denoiser) and isinstance(denoiser.backbone, nn.Module):
            denoiser.backbone.to(self.dtype)
        return module


def with_half_networks(trainer: MakeTrainer) -> MakeTrainer:
    """What makes the same trainers, but with `HalfNetwork` for Lightning's half precisions."""

    def make(**settings: Any) -> pl.Trainer:
        made = trainer(**settings)
        if isinstance(made.precision_plugin, HalfPrecision):
            made.strategy.precision_plugin = HalfNetwork(made.precision_plugin.precision)
        return made

    return make


def check_trainer(trainer: MakeTrainer) -> None:
    """Raise a UserError unless Lightning takes the settings behind `trainer`."""
    try:
        trainer(logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        raise UserError(f"The settings under trainer cannot be used: {' '.join(str(error).split())}") from None
