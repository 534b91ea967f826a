"""Every loss is named after its file, and trains every timestep."""

from collections.abc import Callable

import torch

from fewstep.__main__ import build
from fewstep.config import Config
from fewstep.data.digits import Digits


def test_every_loss_is_named_after_its_file_and_has_a_slope_at_every_timestep(
    loss_name: str, process_name: str, composed: Callable[..., Config]
) -> None:
    """Also below the first one, where the neighbour is the data."""
    config = composed(f"loss@pretrain.loss={loss_name}", "model=unet_digits_learned", f"process={process_name}")
    torch.manual_seed(0)
    loss, denoiser = build(config.pretrain["loss"]), build(config.model)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    times, T = loss.time_distribution(denoiser.process), denoiser.process.T
    drawn = times.draw((torch.arange(T, dtype=torch.float64) + 0.5) / T)
    assert loss.name == loss_name
    assert torch.equal(drawn.t, denoiser.process.grid[1:])
    x0 = Digits().images("train")[:T]
    losses = loss(denoiser, x0, drawn.s, drawn.t, torch.randn(x0.shape), T)
    assert losses.shape == (T,)
    assert torch.isfinite(losses).all()
    for one in losses:
        slopes = torch.autograd.grad(one, denoiser.parameters(), retain_graph=True)
        assert all(torch.isfinite(slope).all() for slope in slopes)
        assert any((slope != 0).any() for slope in slopes)
