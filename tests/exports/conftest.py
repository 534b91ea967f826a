"""A tiny network of diffusers, and schedules for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.diffusers_unet import DiffusersUNet
from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.schedule import Schedule

SHAPE = (1, 8, 8)
PARAMETERISATIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


class Run:
    """A network, what its output means, and the noise that samples start from."""

    def __init__(self, prediction: str, process: Process) -> None:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "block_out_channels": [8, 8],
            "layers_per_block": 1,
            "down_block_types": ["DownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "UpBlock2D"],
            "norm_num_groups": 4,
        }
        network = DiffusersUNet(8, 1, 1, settings).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        self.unet, self.prediction = network.unet, prediction
        self.denoiser = Denoiser(network, process, PARAMETERISATIONS[prediction])
        self.noise = Noise(0, range(2), SHAPE)

    @property
    def start(self) -> Tensor:
        """x_1, [2, 1, 8, 8]."""
        return self.noise(0).float()

    def ours(self, solver: Any, schedule: Schedule) -> Tensor:
        with torch.no_grad():
            *_, last = solver(self.denoiser, schedule, self.noise)
        return last.x.float()

    def output(self, x: Tensor, timestep: Tensor) -> Tensor:
        with torch.no_grad():
            return self.unet(x, timestep).sample


@pytest.fixture(scope="session")
def run() -> Callable[..., Run]:
    """(prediction type, process) → a network that predicts it."""
    return Run
