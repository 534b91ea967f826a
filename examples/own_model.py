"""Find schedules for a network of your own: a plain torch module, a process, and some training images.

python examples/own_model.py
"""

import argparse
import math

import torch
from torch import Tensor, nn

import fewstep
from fewstep.data.digits import Digits


class TinyNetwork(nn.Module):
    """A small convolutional network that predicts the noise ε in x_t; any callable would do."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """ε̂ [B, 1, H, W] of x_t at timesteps 0 … T − 1."""
        phases = timestep[:, None] * torch.exp(-torch.arange(8, device=x.device) * math.log(1e4) / 8)
        emb = self.time(torch.cat([phases.sin(), phases.cos()], dim=1))[:, :, None, None]
        h = torch.relu(self.first(x) + emb)
        h = torch.relu(self.second(h) + emb)
        return self.last(h)


def train(network: nn.Module, process: fewstep.Process, images: Tensor, iterations: int) -> None:
    """The usual loss of Ho et al. 2020."""
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(iterations):
        x0 = images[torch.randint(len(images), (64,))]
        index = torch.randint(1, process.T + 1, (64,))
        noise = torch.randn_like(x0)
        x_t = process.add_noise(x0, process.grid[index], noise)
        loss = (noise - network(x_t, index.float() - 1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def main(iterations: int, T: int) -> dict[int, fewstep.Schedule]:
    torch.manual_seed(0)
    images = Digits().images("train")
    process = fewstep.Process.cosine(T, smallest_noise_level=1 / 16)
    network = TinyNetwork()
    train(network, process, images, iterations)

    schedules = fewstep.find_schedule(
        network,
        process,
        images[:64],
        steps=[4, 8, 16],
        objective="elbo",
        search="dp",
        parameterisation="eps",
        levels=17,
    )
    for K, schedule in schedules.items():
        print(f"{K:3d} steps: timesteps {schedule.timesteps()}")
    return schedules


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=500, help="of training")
    parser.add_argument("--T", type=int, default=200, help="timesteps of the process")
    arguments = parser.parse_args()
    main(arguments.iterations, arguments.T)
