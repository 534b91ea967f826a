"""Every objective's slope in the times: through its weights, through x_t and through the network's own time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewstep.denoiser import PARAMETERISATIONS, Denoiser
from fewstep.noise import Noise
from fewstep.objectives.base import Objective
from fewstep.objectives.discretization import Discretization
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.statistics.denoising_error import KIND

SHAPE, IMAGES = (1, 2, 2), 5
PROCESSES = {
    "linear": lambda: Process.linear(40),
    "linear from 1/16": lambda: Process.linear(40, 1 / 16),
    "cosine": lambda: Process.cosine(40),
    "cosine from 1/16": lambda: Process.cosine(40, 1 / 16),
    "edm": lambda: Process.edm(40, 0.02, 30.0),
}
# v is defined for variance-preserving processes alone.
NETWORKS = [(kind, name) for kind in PROCESSES for name in PARAMETERISATIONS if (kind, name) != ("edm", "v")]
OBJECTIVES = {
    "elbo posterior": lambda: ElboObjective("posterior"),
    "elbo beta": lambda: ElboObjective("beta"),
    "elbo learned": lambda: ElboObjective("learned"),
    "mse_reweighted": MseReweighted,
    "discretization x0": Discretization,
    "discretization eps": lambda: Discretization(form="eps"),
    "discretization x0, p = 1.5": lambda: Discretization(1.5),
    "discretization eps, p = 0.5": lambda: Discretization(0.5, "eps"),
}


class SmoothNetwork(nn.Module):
    """Two layers in float64, smooth in the image and in the time, with a variance head."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        sizes = {"inner": (8, 4), "times": (8, 1), "phases": (8,), "outer": (8, 8)}
        for name, size in sizes.items():
            drawn = torch.randn(size, generator=generator, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(0.5 * drawn))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = torch.tanh(
            x.flatten(1) @ self.inner.T + torch.sin(0.3 * time[:, None] * self.times.T + self.phases)
        )
        return torch.tanh(hidden @ self.outer.T).reshape(len(x), 2, *SHAPE[1:])


def central_difference(function: Callable[[Tensor], Tensor], at: Tensor, i: int, width: float = 1e-4) -> float:
    """∂ function/∂ at[i] by values at ± width and ± 2 width, with an error of fourth order."""
    step = torch.zeros_like(at)
    step[i] = width
    near = function(at + step) - function(at - step)
    far = function(at + 2 * step) - function(at - 2 * step)
    return ((8 * near - far) / (12 * width)).item()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind, parameterisation", NETWORKS)
def test_the_slope_is_that_of_central_differences(
    kind: str, parameterisation: str, objective: str, measure, grey_images
) -> None:
    """Between the grid's times, where the log-SNR is smooth, to 1e-5 of every component."""
    denoiser = Denoiser(SmoothNetwork(), PROCESSES[kind](), parameterisation)
    images, noise = grey_images(IMAGES, SHAPE), Noise(0, range(IMAGES), SHAPE)(0)
    statistics = {KIND: measure(images, denoiser)}
    judged: Objective = OBJECTIVES[objective]()
    times = torch.tensor([0, 9.4, 15.7, 28.2, 36.6, 40], dtype=torch.float64) / 40

    def loss(at: Tensor) -> Tensor:
        return judged.loss(denoiser, images, at, noise, statistics)

    moving = times.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(moving), moving)
    with torch.no_grad():
        differences = [central_difference(loss, times, i) for i in (1, 2, 3, 4)]
    assert bool(torch.isfinite(slope).all())
    assert slope[1:-1].tolist() == pytest.approx(differences, rel=1e-5, abs=0)


@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
def test_the_slope_goes_through_the_state_and_through_the_networks_time(
    parameterisation: str, measure, grey_images
) -> None:
    """A network that passes no gradient to one of its two inputs has the same loss and another slope."""
    network, process = SmoothNetwork(), Process.cosine(40)
    images, noise = grey_images(IMAGES, SHAPE), Noise(0, range(IMAGES), SHAPE)(0)
    backbones = [network, lambda x, time: network(x.detach(), time), lambda x, time: network(x, time.detach())]
    statistics = {KIND: measure(images, Denoiser(network, process, parameterisation))}
    losses, slopes = [], []
    for backbone in backbones:
        times = torch.tensor([0, 9.4, 15.7, 28.2, 40], dtype=torch.float64).div(40).requires_grad_()
        loss = Discretization().loss(
            Denoiser(backbone, process, parameterisation), images, times, noise, statistics
        )
        losses.append(loss.item())
        slopes.append(torch.autograd.grad(loss, times)[0][1:-1])
    assert losses[1:] == losses[:1] * 2
    for slope in slopes[1:]:
        assert bool(((slope - slopes[0]).abs() > 1e-7 * slopes[0].abs()).all())
