"""An image's term of the ELBO is torch's divergence of the two Gaussians, or the decoder's, with right slopes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from fewstep.denoiser import Prediction
from fewstep.errors import UserError
from fewstep.likelihood import discretised_gaussian_nats
from fewstep.objectives.step_terms import image_step_nats
from fewstep.process import Process
from fewstep.variance import BetaVariance, LearnedVariance, OptimalVariance, PosteriorVariance, Variance

LEVELS = 17
PROCESS = Process.cosine(40, 1 / 16)
STEPS = [(0, 1), (1, 2), (3, 10), (0, 7), (20, 40), (39, 40)]
S, T = (PROCESS.grid[list(indices)] for indices in zip(*STEPS, strict=True))
KINDS = ["posterior", "beta", "optimal", "learned"]


def prediction_of(x0: Tensor, seed: int = 0, error: float = 0.1) -> Prediction:
    """Something near x_0, and fractions from −2 to 3."""
    generator = torch.Generator().manual_seed(seed)
    noise, fraction = torch.rand(2, *x0.shape, generator=generator, dtype=torch.float64)
    return Prediction(x0 + error * (2 * noise - 1), 5 * fraction - 2)


def images(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, LEVELS, (6, 1, 2, 3), generator=generator).double() / 8 - 1


def kind(name: str, process: Process) -> Variance:
    optimal = OptimalVariance(process.grid[1:], torch.linspace(1e-3, 0.5, process.T, dtype=torch.float64))
    return {v.name: v for v in (PosteriorVariance(), BetaVariance(), LearnedVariance(), optimal)}[name]


def divergence(process: Process, s: Tensor, t: Tensor, x0: Tensor, prediction: Prediction, name: str) -> Tensor:
    """KL(q(x_s | x_t, x_0) ‖ q(x_s | x_t, x̂_0) with σ_p²) of one image, per torch, for one step."""
    transition = process.transition(s, t)
    low, high, c = transition.posterior_variance, transition.variance, transition.x0_coefficient
    assert prediction.fraction is not None
    f = prediction.fraction
    model_variance = {
        "posterior": low,
        "beta": high,
        "optimal": low + c.square() * (1e-3 + (t * process.T - 1) / (process.T - 1) * (0.5 - 1e-3)),
        "learned": torch.exp(f * torch.log(high) + (1 - f) * torch.log(low)),
    }[name]
    # Both means hold the same multiple of x_t, so any x_t will do.
    x_t = transition.xt_coefficient * 0.3
    p = Normal(c * prediction.x0 + x_t, model_variance.sqrt())
    return kl_divergence(Normal(c * x0 + x_t, low.sqrt()), p).sum()


@pytest.mark.parametrize("name", KINDS)
def test_a_step_is_the_divergence_of_two_gaussians_per_pixel(name: str, any_process: Process) -> None:
    x0 = images()
    prediction = prediction_of(x0)
    assert prediction.fraction is not None
    s, t = any_process.grid[[1, 1, 3, 8, 20, 39]], any_process.grid[[2, 40, 10, 33, 40, 40]]
    nats = image_step_nats(any_process, s, t, x0, prediction, kind(name, any_process), LEVELS)
    each = [Prediction(x, f) for x, f in zip(prediction.x0, prediction.fraction, strict=True)]
    expected = torch.stack([divergence(any_process, *row, name) for row in zip(s, t, x0, each, strict=True)])
    assert nats.dtype == torch.float64
    torch.testing.assert_close(nats, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_the_last_step_is_the_decoders(name: str) -> None:
    """Under σ²_{t|0} for all kinds but optimal; at t_1 the learned kind goes from σ̃²(1, 2) to σ_1²."""
    x0 = images()
    prediction, variance = prediction_of(x0), kind(name, PROCESS)
    assert prediction.fraction is not None
    t = PROCESS.grid[[1, 1, 1, 7, 20, 40]]
    nats = image_step_nats(PROCESS, PROCESS.grid[0], t, x0, prediction, variance, LEVELS)
    low = PROCESS.transition(PROCESS.grid[1], PROCESS.grid[2]).posterior_variance
    for i, time in enumerate(t):
        full, f = PROCESS.sigma(time).square(), prediction.fraction[i]
        clipped = low if i < 3 else full
        spread = {
            "posterior": clipped,
            "beta": clipped,
            "optimal": variance.decoder(PROCESS, time) if name == "optimal" else None,
            "learned": full**f * clipped ** (1 - f),
        }[name]
        expected = discretised_gaussian_nats(x0[i : i + 1], prediction.x0[i : i + 1], spread, LEVELS)
        torch.testing.assert_close(nats[i : i + 1], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_an_image_has_its_own_term_whatever_is_beside_it(name: str) -> None:
    x0 = images()
    prediction, variance = prediction_of(x0), kind(name, PROCESS)
    assert prediction.fraction is not None
    together = image_step_nats(PROCESS, S, T, x0, prediction, variance, LEVELS)
    for i in range(6):
        one = Prediction(prediction.x0[i : i + 1], prediction.fraction[i : i + 1])
        alone = image_step_nats(PROCESS, S[i], T[i], x0[i : i + 1], one, variance, LEVELS)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_slopes_are_central_differences(name: str) -> None:
    """In the prediction and its fraction, and in the times but where optimal variances are tabulated."""
    x0 = images()
    prediction, variance = prediction_of(x0), kind(name, PROCESS)
    assert prediction.fraction is not None

    def nats(predicted: Tensor, fraction: Tensor) -> Tensor:
        return image_step_nats(PROCESS, S, T, x0, Prediction(predicted, fraction), variance, LEVELS)

    inputs = (prediction.x0.requires_grad_(), prediction.fraction.requires_grad_(name == "learned"))
    assert torch.autograd.gradcheck(nats, inputs)
    if name == "optimal":
        return
    between = [time.clone().requires_grad_() for time in (S[1:3] + 0.004, T[1:3] - 0.006)]

    def nats_of_times(s: Tensor, t: Tensor) -> Tensor:
        part = Prediction(prediction.x0[1:3].detach(), prediction.fraction[1:3].detach())
        return image_step_nats(PROCESS, s, t, x0[1:3], part, variance, LEVELS)

    assert torch.autograd.gradcheck(nats_of_times, between)


@given(st.floats(-6, 6), st.floats(-3, 3), st.sampled_from(STEPS))
def test_slopes_are_finite_however_wrong_the_network_is(
    fraction: float, error: float, step: tuple[int, int]
) -> None:
    """Also from a float32 network, in the far tails of the decoder and beyond the outermost levels."""
    s, t = PROCESS.grid[list(step)]
    x0 = torch.linspace(-1, 1, LEVELS).reshape(1, 1, 1, -1)
    predicted = (x0 + error).requires_grad_()
    f = torch.full_like(x0, fraction).requires_grad_()
    nats = image_step_nats(PROCESS, s, t, x0, Prediction(predicted, f), LearnedVariance(), LEVELS)
    nats.sum().backward()
    assert predicted.grad is not None
    assert f.grad is not None
    for tensor in (nats, predicted.grad, f.grad):
        assert bool(torch.isfinite(tensor).all())


def test_a_learned_variance_needs_a_fraction() -> None:
    x0 = images()
    with pytest.raises(UserError, match="variance head"):
        image_step_nats(PROCESS, S, T, x0, Prediction(x0), LearnedVariance(), LEVELS)


def test_a_perfect_network_with_the_posteriors_variance_costs_nothing() -> None:
    x0 = images()
    perfect = Prediction(x0, torch.zeros_like(x0))
    nats = image_step_nats(PROCESS, S, T, x0, perfect, LearnedVariance(), LEVELS)
    assert nats[S > 0].abs().max() == 0
    low = PROCESS.transition(PROCESS.grid[1], PROCESS.grid[2]).posterior_variance.sqrt().item()
    # The share of the bin, half a level to each side and open at the ends, of 6 pixels at least.
    inside = math.erf(1 / 16 / low / math.sqrt(2))
    assert nats[0].item() <= -6 * math.log(inside) + 1e-12
