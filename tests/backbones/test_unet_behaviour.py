"""What the UNet does at its start and in training, in other precisions, and to an image in a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewstep.backbones.unet import UNet


def test_output_is_zero_before_training(narrow: dict[str, Any], inputs: Callable[..., Any]) -> None:
    x, timesteps, _ = inputs(narrow, dtype=torch.float32)
    output = UNet(**narrow)(x, timesteps)
    assert output.shape == (3, 3, 8, 8)
    assert not output.any()


def test_last_layer_of_every_branch_starts_at_zero(narrow: dict[str, Any]) -> None:
    weights = {name: value for name, value in UNet(**narrow).state_dict().items() if value.ndim > 1}
    zero = {name for name, value in weights.items() if not value.any()}
    ends = (".out_layers.3.weight", ".proj_out.weight", "out.2.weight")
    assert zero == {name for name in weights if name.endswith(ends)}


def test_output_is_continuous_in_the_timestep(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(narrow)
    x, _, _ = inputs(narrow, batch=1)

    def at(t: float) -> torch.Tensor:
        return network(x, torch.tensor([t], dtype=torch.float64)).detach()

    assert (at(998.5) - at(998.0)).abs().max() > 1e-3
    # Differentiable in t: halving a small step halves the change, and nothing jumps on crossing an integer.
    for t in (998.5, 998.0):
        whole, half = ((at(t + step) - at(t - step)).abs().max().item() for step in (1e-5, 5e-6))
        assert whole / half == pytest.approx(2, rel=1e-3)


def test_every_parameter_gets_a_gradient(
    variant: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(variant)
    x, timesteps, label = inputs(variant)
    network(x, timesteps, label).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_near_double(
    dtype: torch.dtype, narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(narrow)
    x, timesteps, _ = inputs(narrow)
    exact = network(x, timesteps)
    rounded = network.to(dtype)(x, timesteps)
    assert rounded.dtype == torch.float64
    error = (rounded - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
    assert 0 < error < {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]


def test_timesteps_are_not_rounded_to_the_weights_precision(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised(narrow, dtype=torch.bfloat16)
    x, _, _ = inputs(narrow, batch=1)
    t, rounded = torch.tensor([999.4]), torch.tensor([999.4]).bfloat16().float()
    assert rounded == 1000
    assert not torch.equal(network(x, t), network(x, rounded))


def test_dropout_acts_in_training_alone(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    network = randomised({**narrow, "dropout": 0.5})
    x, timesteps, _ = inputs(narrow)
    assert torch.equal(network(x, timesteps), network(x, timesteps))
    network.train()
    assert not torch.equal(network(x, timesteps), network(x, timesteps))


def test_an_image_does_not_depend_on_its_neighbours(
    narrow: dict[str, Any], randomised: Callable[..., UNet], inputs: Callable[..., Any]
) -> None:
    """To the last bit, at one position of batches of one size; the sampler's padded batches rest on it."""
    network = randomised(narrow, dtype=torch.float32)
    x, timesteps, _ = inputs(narrow, batch=8, dtype=torch.float32)
    others, other_timesteps, _ = inputs(narrow, batch=8, dtype=torch.float32, seed=2)
    others[5], other_timesteps[5] = x[5], timesteps[5]
    assert torch.equal(network(x, timesteps)[5], network(others, other_timesteps)[5])
