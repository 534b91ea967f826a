"""The optimal variance between timesteps: linear between neighbours on the grid, with its slope, never further."""

import pytest
import torch

from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.variance import OptimalVariance

PROCESS = Process.cosine(40)


def test_it_is_linear_between_neighbours_and_exact_on_them() -> None:
    error = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimal = OptimalVariance(PROCESS.grid[1:], error)
    assert torch.equal(optimal.error(PROCESS.grid[1:], PROCESS), error)
    t = torch.tensor([3.25, 17.5, 39.9], dtype=torch.float64) / 40
    expected = [0.75 * error[2] + 0.25 * error[3], (error[16] + error[17]) / 2, 0.1 * error[38] + 0.9 * error[39]]
    assert optimal.error(t, PROCESS).tolist() == pytest.approx([value.item() for value in expected], rel=1e-9)


@pytest.mark.parametrize("position", [3.25, 17.5, 8.0, 40.0])
def test_its_slope_is_that_of_the_cell(position: float) -> None:
    """On the grid that of the cell below."""
    error = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor(position / 40, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(OptimalVariance(PROCESS.grid[1:], error).decoder(PROCESS, t), t)
    above = -int(-position // 1)
    assert slope.item() == pytest.approx((error[above - 1] - error[above - 2]).item() * 40, rel=1e-9)


def test_it_does_not_reach_over_timesteps_that_were_not_fitted() -> None:
    optimal = OptimalVariance(PROCESS.grid[[3, 4, 9, 40]], torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
    assert optimal.error(torch.tensor(3.5 / 40), PROCESS).item() == pytest.approx(0.15)
    for position in (2.5, 4.5, 5.0, 39.5):
        with pytest.raises(UserError, match="not fitted at time"):
            optimal.error(torch.tensor(position / 40, dtype=torch.float64), PROCESS)
    with pytest.raises(UserError, match="not fitted at time"):
        optimal.error(torch.tensor(3.5 / 40, dtype=torch.float64))
