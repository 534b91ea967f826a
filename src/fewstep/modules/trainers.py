"""A trainer's settings: which of them decide numbers, and the precision that networks run in under it.

Likelihoods, samples' states, losses, averaged weights and the judge's features keep types of their own, float64 or
float32, in whatever precision the network runs. Lightning's mixed precisions fit that, as autocast leaves float64
alone. Its half precisions do not: they turn whole modules, drawn times and sums of metrics into bfloat16, and set
torch's default type for all threads. `HalfNetwork` turns the network alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.plugins.precision import HalfPrecision, Precision
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.ranks import world

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


def check_trainer(trainer: MakeTrainer) -> pl.Trainer:
    """A trainer that `trainer` makes.

    Raises:
        UserError: Lightning does not take the settings behind it.
    """
    try:
        return trainer(logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        if reason.startswith("The strategy `fsdp` requires a GPU"):
            raise UserError(
                "The strategy fsdp shares networks out over GPUs, and this run is on another accelerator; take "
                "trainer=ddp, or a machine with GPUs."
            ) from None
        raise UserError(f"The settings under trainer cannot be used: {reason}") from None


def device_of(trainer: MakeTrainer) -> torch.device:
    """This rank's device."""
    return check_trainer(trainer).strategy.root_device


def on_one_device(trainer: MakeTrainer) -> MakeTrainer:
    """What makes trainers for this rank's device alone, for work that rank 0 does while the others wait."""
    if world() == 1:
        return trainer
    device = device_of(trainer)
    devices = [device.index] if device.type == "cuda" else 1
    return partial(trainer, strategy="auto", devices=devices, num_nodes=1)


def with_whole_networks(trainer: MakeTrainer) -> MakeTrainer:
    """What makes the same trainers, but in place of FSDP's with the whole network on every device.

    FSDP is for training: it asks every rank for as many calls, and ranks that measure share them out unevenly.
    """
    if not isinstance(check_trainer(trainer).strategy, FSDPStrategy):
        return trainer
    return partial(trainer, strategy="ddp")
