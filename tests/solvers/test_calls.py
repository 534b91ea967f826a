"""What a solver costs, as it says, or guessed; and what samples of it cost with their padding."""

from collections.abc import Callable

import pytest
import torch

from fewstep.calls import ABOUT, Calls
from fewstep.denoiser import Denoiser
from fewstep.process import Process
from fewstep.sampling import sample, sampling_calls
from fewstep.schedule import Schedule
from fewstep.solvers.base import solver_calls
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.heun import Heun


class Silent:
    """A solver that does not say what it costs."""


def test_k_steps_of_heun_are_2k_minus_1_calls_and_of_a_solver_that_is_silent_about_k() -> None:
    assert [solver_calls(Heun(), K) for K in (1, 8)] == [Calls(1), Calls(15)]
    assert solver_calls(Silent(), 8) == Calls(8, mark=ABOUT)  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [1, 128, 129])
@pytest.mark.parametrize("make", [Ddim, Heun])
def test_samples_cost_whole_blocks(images: int, make: Callable[[], Ddim | Heun]) -> None:
    process, solver = Process.cosine(20), make()
    denoiser = Denoiser(lambda x, time: torch.zeros_like(x), process, "x0")
    sample(denoiser, solver, Schedule.on_grid([0, 5, 20], process), range(images), 0, (1, 2, 2))
    assert denoiser.evaluations == sampling_calls(images, solver.network_calls(2)).total
