"""The times that training draws come as often as stated, and make the loss the objective's."""

from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.time_distribution import OnSchedule, SecondMomentTimes, TimeDistribution, UniformTimes

PROCESS = Process.cosine(40, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 2, 9, 17, 40], PROCESS)
# Midpoints of 100,000 equal cells of [0, 1): counting over them integrates over the quantile.
QUANTILES = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


def learned(losses: Tensor, memory: int = 1) -> SecondMomentTimes:
    """Second moments from losses [T] seen `memory` times at every timestep."""
    times = SecondMomentTimes(PROCESS, memory)
    for _ in range(memory):
        times.observe(torch.arange(1, 41), losses.double())
    return times


def frequencies(times: Tensor, allowed: Tensor) -> Tensor:
    """How often each allowed time comes; every time must be allowed."""
    matches = times[:, None] == allowed
    assert bool(matches.any(1).all())
    return matches.double().mean(0)


def test_uniform_draws_every_timestep_equally_often() -> None:
    drawn = frequencies(UniformTimes(PROCESS).draw(QUANTILES).t, PROCESS.grid[1:])
    torch.testing.assert_close(drawn, torch.full((40,), 1 / 40, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_schedule_draws_its_timesteps_as_often_as_stated() -> None:
    weights = torch.tensor([3.0, 1.0, 0.5, 5.5])
    drawn = frequencies(OnSchedule(SCHEDULE, weights).draw(QUANTILES).t, SCHEDULE.times[1:])
    torch.testing.assert_close(drawn, weights.double() / 10, rtol=0, atol=1e-5)
    drawn = frequencies(OnSchedule.uniform(SCHEDULE).draw(QUANTILES).t, SCHEDULE.times[1:])
    torch.testing.assert_close(drawn, torch.full((4,), 0.25, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_quantile_on_an_edge_belongs_to_the_time_above() -> None:
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    assert torch.equal(OnSchedule.uniform(SCHEDULE).draw(edges).t, SCHEDULE.times[1:])


@pytest.mark.parametrize("quantile", [0.0, 1 - 2**-53, 1 - 2**-24])
def test_the_ends_of_the_quantiles_are_times(quantile: float) -> None:
    """Ten tenths add up to a little under 1, which leaves no gap at the top."""
    quantiles = torch.tensor([quantile], dtype=torch.float64)
    expected = 0 if quantile == 0 else -1
    tenths = OnSchedule.uniform(Schedule.on_grid([0, *range(31, 41)], PROCESS))
    assert tenths.draw(quantiles).t.item() == tenths.nodes[1:][expected]
    assert UniformTimes(PROCESS).draw(quantiles).t.item() == PROCESS.grid[1:][expected]
    assert learned(torch.rand(40)).draw(quantiles).t.item() == PROCESS.grid[1:][expected]


@pytest.mark.parametrize("parameterisation", ["eps", "v", "x0", "edm"])
def test_the_expected_loss_is_the_objectives(parameterisation: str) -> None:
    """E over drawn times of loss_weight(t) e(t) is proportional to Σ_i weight_i e(t_i), whatever e is."""
    denoiser = Denoiser(lambda x, t: x, PROCESS, parameterisation)
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, generator=generator, dtype=torch.float64) + 0.01
    distribution = OnSchedule.of_objective(SCHEDULE, weights, denoiser)
    drawn = frequencies(distribution.draw(QUANTILES).t, SCHEDULE.times[1:])
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


@pytest.mark.parametrize("times", [UniformTimes(PROCESS), OnSchedule.uniform(SCHEDULE), learned(torch.rand(40))])
def test_a_drawn_time_comes_with_the_node_below_it(times: TimeDistribution) -> None:
    drawn = times.draw(QUANTILES[::100])
    assert torch.equal(times.nodes[drawn.index], drawn.t)
    assert torch.equal(times.nodes[drawn.index - 1], drawn.s)
    assert times.nodes[0] == 0


def test_second_moments_are_probabilities_as_by_hand() -> None:
    """Losses 3 and 4 at t_1, 0 and 1 at t_2, of three timesteps: √(25/2), √(1/2) and √2, a thousandth spread."""
    times = SecondMomentTimes(Process.cosine(3), memory=2)
    times.observe(torch.tensor([1, 2, 3, 1]), torch.tensor([3.0, 0.0, 1.0, 4.0], dtype=torch.float64))
    assert times.probabilities.tolist() == [1 / 3] * 3  # t_2 and t_3 have been seen once
    times.observe(torch.tensor([3, 2]), torch.tensor([3**0.5, 1.0], dtype=torch.float64))
    size = torch.tensor([5.0, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(times.probabilities, 0.999 * size / 8 + 0.001 / 3, rtol=1e-14, atol=0)
    torch.testing.assert_close(times.draw(torch.zeros(1).double()).weight, 1 / (3 * times.probabilities[:1]))


@given(st.integers(0, 2**31), st.floats(0.0, 30.0))
def test_weights_make_importance_sampling_unbiased(seed: int, orders: float) -> None:
    """Σ p_n weight_n L_n is the mean of L, whatever L is and whatever has been seen."""
    generator = torch.Generator().manual_seed(seed)
    seen, losses = (10 ** (orders * torch.rand(40, generator=generator).double()) for _ in range(2))
    times = learned(seen, memory=3)
    probabilities = times.probabilities
    at = probabilities.cumsum(0) - probabilities / 2
    drawn = times.draw(at)
    assert drawn.index.tolist() == [*range(1, 41)]
    assert probabilities.sum().item() == pytest.approx(1, rel=1e-12)
    expected = (probabilities * drawn.weight * losses).sum()
    torch.testing.assert_close(expected, losses.mean(), rtol=1e-12, atol=0)


def test_importance_sampling_draws_as_often_as_its_probabilities() -> None:
    times = learned(torch.linspace(0, 1, 40).square())
    drawn = frequencies(times.draw(QUANTILES).t, PROCESS.grid[1:])
    torch.testing.assert_close(drawn, times.probabilities, rtol=0, atol=2e-5)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=30), min_size=1, max_size=6))
def test_the_last_losses_of_every_timestep_are_remembered(batches: list[list[int]]) -> None:
    """Whatever falls together in a batch; against one queue per timestep."""
    times, queues = SecondMomentTimes(Process.cosine(5), memory=3), [deque(maxlen=3) for _ in range(5)]
    value = 0
    for batch in batches:
        losses = torch.arange(value, value + len(batch)).double()
        value += len(batch)
        times.observe(torch.tensor(batch), losses)
        for index, loss in zip(batch, losses.tolist(), strict=True):
            queues[index - 1].append(loss)
    for row, seen, queue in zip(times.losses, times.seen.tolist(), queues, strict=True):
        assert sorted(row[: min(seen, 3)].tolist()) == sorted(queue)
    assert times.seen.sum() == sum(len(batch) for batch in batches)


def test_what_was_learned_is_in_the_state() -> None:
    times = learned(torch.rand(40), memory=10)
    again = SecondMomentTimes(PROCESS)
    again.load_state_dict(times.state_dict())
    assert torch.equal(again.probabilities, times.probabilities)
    assert times.probabilities.std() > 0


def test_losses_that_are_all_zero_leave_the_draw_uniform() -> None:
    assert learned(torch.zeros(40)).probabilities.tolist() == [1 / 40] * 40
