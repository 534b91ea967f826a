"""Every solver goes from the prior to a finite image in K steps, and says whether it adds noise on its way."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep import UserError
from fewstep.__main__ import build
from fewstep.calls import Calls
from fewstep.config import Config
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.base import Solver, initial_state, solver_calls
from fewstep.variance import VARIANCES

T = 24  # of the grids here


@pytest.fixture
def make_solver(solver_name: str, composed: Callable[..., Config], tiny: Any) -> Callable[..., Solver]:
    """The solver, fitted, of some settings."""

    def make(*overrides: str) -> Solver:
        solver: Solver = build(composed(f"solver=[{solver_name}]", *overrides).solver[solver_name])
        solver.fit(tiny.statistics(solver.needs))
        return solver

    return make


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_solver_goes_from_the_prior_to_a_finite_image_in_k_steps(
    make_solver: Callable[..., Solver], variance: str, tiny: Any
) -> None:
    solver = make_solver(f"variance={variance}")
    for K in (1, 4):
        schedule = Schedule.on_grid([0, *range(T - K + 1, T + 1)], tiny.process)
        noise = Noise(7, range(3), tiny.images.shape[1:])
        calls = tiny.denoiser.calls
        with torch.inference_mode():
            steps = list(solver(tiny.denoiser, schedule, noise))
            calls = tiny.denoiser.calls - calls
            start = initial_state(tiny.denoiser, schedule, noise)
            first = tiny.denoiser(start, schedule.times[-1]).x0
        assert solver_calls(solver, K) == Calls(calls)
        assert calls >= K
        times = schedule.times.flip(0).tolist()
        assert [(step.t, step.s) for step in steps] == [*itertools.pairwise(times)]
        assert torch.equal(steps[0].x0, first)
        assert steps[-1].s == 0
        assert steps[-1].x.dtype == torch.float64
        assert steps[-1].x.shape == (3, *tiny.images.shape[1:])
        assert all(torch.isfinite(step.x).all() for step in steps)
        # The protocol's end: the last move returns the denoiser's image.
        torch.testing.assert_close(steps[-1].x, steps[-1].x0, rtol=0, atol=1e-12)


class OtherNoiseOnTheWay(Noise):
    """The same noise to start from, and other noise in every move."""

    def __call__(self, step: int) -> Tensor:
        return super().__call__(step + 1000 * (step > 0))


def test_every_solver_says_whether_it_adds_noise(make_solver: Callable[..., Solver], tiny: Any) -> None:
    solver, schedule = make_solver(), Schedule.on_grid([0, 3, 9, 16, T], tiny.process)
    with torch.inference_mode():
        one, other = (
            list(solver(tiny.denoiser, schedule, kind(7, range(3), tiny.images.shape[1:])))[-1].x
            for kind in (Noise, OtherNoiseOnTheWay)
        )
    assert torch.equal(one, other) is not solver.adds_noise


def test_every_solver_refuses_a_schedule_of_another_process(make_solver: Callable[..., Solver], tiny: Any) -> None:
    schedule = Schedule.on_grid([0, 3, T], Process.cosine(T, 0.01))
    with pytest.raises(UserError, match=r"made for Process.cosine\(T=24, smallest_noise_level=0.01\)"):
        next(iter(make_solver()(tiny.denoiser, schedule, Noise(0, range(1), (1, 8, 8)))))
