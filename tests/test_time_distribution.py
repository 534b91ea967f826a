"""The times that training draws come as often as stated, and make the loss the objective's."""

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule, UniformTimes

PROCESS = Process.cosine(40, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 2, 9, 17, 40], PROCESS)
# Midpoints of 100,000 equal cells of [0, 1): counting over them integrates over the quantile.
QUANTILES = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


def frequencies(times: Tensor, allowed: Tensor) -> Tensor:
    """How often each allowed time comes; every time must be allowed."""
    matches = times[:, None] == allowed
    assert bool(matches.any(1).all())
    return matches.double().mean(0)


def test_uniform_draws_every_timestep_equally_often() -> None:
    drawn = frequencies(UniformTimes(PROCESS).times(QUANTILES), PROCESS.grid[1:])
    torch.testing.assert_close(drawn, torch.full((40,), 1 / 40, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_schedule_draws_its_timesteps_as_often_as_stated() -> None:
    weights = torch.tensor([3.0, 1.0, 0.5, 5.5])
    drawn = frequencies(OnSchedule(SCHEDULE, weights).times(QUANTILES), SCHEDULE.times[1:])
    torch.testing.assert_close(drawn, weights.double() / 10, rtol=0, atol=1e-5)
    drawn = frequencies(OnSchedule.uniform(SCHEDULE).times(QUANTILES), SCHEDULE.times[1:])
    torch.testing.assert_close(drawn, torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_quantile_on_an_edge_belongs_to_the_time_above() -> None:
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    assert torch.equal(OnSchedule.uniform(SCHEDULE).times(edges), SCHEDULE.times[1:])


@pytest.mark.parametrize("quantile", [0.0, 1 - 2**-53, 1 - 2**-24])
def test_the_ends_of_the_quantiles_are_times(quantile: float) -> None:
    """Ten tenths add up to a little under 1, which leaves no gap at the top."""
    quantiles = torch.tensor([quantile], dtype=torch.float64)
    expected = 0 if quantile == 0 else -1
    tenths = OnSchedule.uniform(Schedule.on_grid([0, *range(31, 41)], PROCESS))
    assert tenths.times(quantiles).item() == tenths.chosen[expected]
    assert UniformTimes(PROCESS).times(quantiles).item() == PROCESS.grid[1:][expected]


@pytest.mark.parametrize("parameterisation", ["eps", "v", "x0", "edm"])
def test_the_expected_loss_is_the_objectives(parameterisation: str) -> None:
    """E over drawn times of loss_weight(t) e(t) is proportional to Σ_i weight_i e(t_i), whatever e is."""
    denoiser = Denoiser(lambda x, t: x, PROCESS, parameterisation)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, generator=generator, dtype=torch.float64) + 0.01
    distribution = OnSchedule.of_objective(SCHEDULE, weights, denoiser)
    drawn = frequencies(distribution.times(QUANTILES), SCHEDULE.times[1:])
    torch.testing.assert_close(drawn, distribution.probabilities, rtol=0, atol=1e-5)
    ratios = []
    for _ in range(5):
        error = torch.rand(4, generator=generator, dtype=torch.float64)
        loss = (distribution.probabilities * denoiser.loss_weight(SCHEDULE.times[1:]) * error).sum()
        ratios.append((loss / (weights * error).sum()).item())
    assert ratios == pytest.approx([ratios[0]] * 5, rel=1e-12)


@pytest.mark.parametrize(
    "probabilities", [[1.0, 1.0, 1.0], [1.0] * 5, [1.0, 0.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0], [torch.nan] * 4]
)
def test_probabilities_that_are_none(probabilities: list[float]) -> None:
    with pytest.raises(UserError, match="4 steps needs as many positive probabilities"):
        OnSchedule(SCHEDULE, torch.tensor(probabilities))
