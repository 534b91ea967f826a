"""The networks that jobs plan with: one for all jobs whose models differ in weights or process alone."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import nn

from fewstep.config import Config
from fewstep.denoiser import Denoiser
from fewstep.modules.trainers import with_half_networks
from fewstep.planning.network import Network
from fewstep.run import fingerprint
from fewstep.sampling import ROWS
from fewstep.trainable.base import Trainable


class Networks:
    """Networks by what decides their cost, each on the device and in the precision of its job's trainer.

    Args:
        build: instantiates a node of a configuration.
    """

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build = build
        self._made: dict[str, Network] = {}

    @property
    def all(self) -> list[Network]:
        """Every network asked for, once."""
        return list(dict.fromkeys(self._made.values()))

    def of(
        self, config: Config, shape: tuple[int, int, int], trainable: Mapping[str, Any] | None = None
    ) -> Network:
        """The network of a job, made now unless it was asked for before.

        Args:
            config: of the job.
            shape: (C, H, W) of its images.
            trainable: describes the weights that are trained; None for all of them.
        """
        model = {key: value for key, value in config.model.items() if key != "process"}
        key = fingerprint({"model": model, "trainer": config.trainer, "trainable": trainable, "shape": shape})
        if key not in self._made:
            made = self._make(config, shape, trainable)
            self._made[key] = self.of(config, shape) if trainable is not None and made.trains_all else made
        return self._made[key]

    def _make(self, config: Config, shape: tuple[int, int, int], trainable: Mapping[str, Any] | None) -> Network:
        denoiser: Denoiser = self.build(config.model)
        if trainable is not None:
            prepares: Trainable = self.build(trainable)
            assert isinstance(denoiser.backbone, nn.Module)
            prepares.prepare(denoiser.backbone)
        make_trainer: Callable[..., pl.Trainer] = with_half_networks(self.build(config.trainer))
        trainer = make_trainer(logger=False, enable_checkpointing=False)
        device, precision = trainer.strategy.root_device, trainer.precision_plugin
        on_device = precision.convert_module(denoiser.to(device)).eval()
        assert isinstance(on_device, Denoiser)
        return Network(on_device, shape, device, precision.forward_context, ROWS, config.pretrain["batch_size"])
