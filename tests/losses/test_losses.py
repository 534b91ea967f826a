"""Training losses: the bound is the ELBO, the hybrid's mean learns from the simple loss alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.losses.base import Loss
from fewstep.losses.hybrid import HybridLoss
from fewstep.losses.simple import SimpleLoss
from fewstep.losses.vlb import VlbLoss
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND

LEVELS = 17
PROCESS = Process.cosine(40, 1 / 16)
LEARNING = [HybridLoss(LEVELS), VlbLoss(LEVELS)]


class TwoHeads(nn.Module):
    """An output from the input and one weight, and a variance channel 2f − 1 = `channel` from another."""

    def __init__(self, weight: float = 0.4, channel: float = 0.3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        self.channel = nn.Parameter(torch.tensor(channel, dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = x.to(self.weight)
        return torch.cat([self.weight * x, self.channel * torch.ones_like(x)], dim=1)


def slopes(loss: Loss, network: TwoHeads, x0: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes of the summed loss at grid indices n in the mean's weight and the variance's."""
    noise = Noise(1, range(len(x0)), x0.shape[1:])(0)
    total = loss(
        Denoiser(network, PROCESS, "edm"), x0, PROCESS.grid[n - 1], PROCESS.grid[n], noise, PROCESS.T
    ).sum()
    return torch.autograd.grad(total, (network.weight, network.channel), allow_unused=True)


def test_the_bound_is_the_elbo_without_its_prior(
    grey_images: Callable[..., Tensor], measure: Callable[..., object]
) -> None:
    """With f = 0 the learned variance is the posterior's: mean over all steps of the loss, in bits/dim."""
    x0 = grey_images(5)
    denoiser = Denoiser(TwoHeads(channel=-1.0), PROCESS, "edm")
    statistics = measure(x0, denoiser, seed=1)
    elbo = ElboObjective("posterior").image_values({KIND: statistics}, Schedule.on_grid([*range(41)], PROCESS))
    expected = (elbo - statistics.prior) / (4 * torch.log(torch.tensor(2.0, dtype=torch.float64)))
    noise = Noise(1, range(5), (1, 2, 2))(0)
    with torch.inference_mode():
        terms = [
            VlbLoss(LEVELS)(denoiser, x0, s.expand(5), t.expand(5), noise, 40)
            for s, t in zip(PROCESS.grid[:-1], PROCESS.grid[1:], strict=True)
        ]
    torch.testing.assert_close(torch.stack(terms).mean(0), expected, rtol=1e-9, atol=0)


def test_the_hybrids_mean_learns_from_the_simple_loss_and_its_variance_from_the_bound(
    grey_images: Callable[..., Tensor],
) -> None:
    x0, n = grey_images(8), torch.tensor([1, 2, 3, 8, 17, 25, 39, 40])
    hybrid, simple, vlb = (
        slopes(loss, TwoHeads(), x0, n) for loss in (HybridLoss(17, 0.02), SimpleLoss(), LEARNING[1])
    )
    torch.testing.assert_close(hybrid[0], simple[0], rtol=1e-12, atol=0)
    assert simple[1] is None or simple[1] == 0
    torch.testing.assert_close(hybrid[1], 0.02 * vlb[1], rtol=1e-12, atol=0)
    assert vlb[0].abs() > 0.1 * abs(vlb[1]) > 0  # the bound trains the mean too


def test_the_hybrid_is_the_simple_loss_and_a_thousandth_of_the_bound(grey_images: Callable[..., Tensor]) -> None:
    x0, noise = grey_images(4), Noise(0, range(4), (1, 2, 2))(0)
    s, t = PROCESS.grid[[0, 1, 9, 20]], PROCESS.grid[[3, 2, 10, 40]]
    with torch.inference_mode():
        simple, hybrid, vlb = (
            loss(Denoiser(TwoHeads(), PROCESS, "edm"), x0, s, t, noise, 8) for loss in (SimpleLoss(), *LEARNING)
        )
    torch.testing.assert_close(hybrid, simple + 1e-3 * vlb, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LEARNING, ids=lambda loss: loss.name)
def test_a_loss_that_trains_a_variance_needs_one(loss: Loss) -> None:
    one_head = Denoiser(lambda x, time: x, PROCESS, "edm")
    x0 = torch.zeros(1, 1, 2, 2)
    with pytest.raises(UserError, match=rf"loss '{loss.name}' trains a learned variance.*unet_digits_learned"):
        loss(one_head, x0, PROCESS.grid[[1]], PROCESS.grid[[2]], x0, 40)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_the_weight_of_the_bound_is_positive(weight: float) -> None:
    with pytest.raises(UserError, match="vlb_weight is"):
        HybridLoss(LEVELS, weight)


@pytest.mark.parametrize("loss", LEARNING, ids=lambda loss: loss.name)
@pytest.mark.parametrize("channel", [-9.0, 9.0])
def test_slopes_are_finite_at_every_timestep_for_fractions_far_outside(
    loss: Loss, channel: float, grey_images: Callable[..., Tensor], any_process: Process
) -> None:
    """In float32, with a mean that is far off, and f = −4 or 5."""
    network = TwoHeads(30.0, channel).float()
    x0 = grey_images(40).float()
    denoiser = Denoiser(network, any_process, "edm")
    s, t = any_process.grid[:-1], any_process.grid[1:]
    loss(
        denoiser, x0, s, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)), 40
    ).sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad)
