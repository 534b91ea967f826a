"""Heun's method against closed forms and the paper's algorithm."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.heun import Heun

SHAPE = (1, 2, 2)
PATHS = [[0, 40], [0, 13, 40], [0, 1, 2, 17, 33, 40], list(range(41))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("c", [0.3, 1.0])
def test_its_factor_on_gaussian_data(any_process: Process, perfect_denoiser, path: list[int], c: float) -> None:
    """dz/dσ̄ = g z, g = σ̄/(c² + σ̄²): a step h = σ̄_s − σ̄_t multiplies z by 1 + h/2 (g_t + g_s (1 + h g_t)).

    The last one, Euler's, multiplies it by c²/(c² + σ̄²).
    """
    schedule, noise = Schedule.on_grid(path, any_process), Noise(0, range(3), SHAPE)
    levels = schedule.sigmas()
    g = {level: level / (c**2 + level**2) for level in levels}
    factor = c**2 / (c**2 + levels[-2] ** 2)
    for t, s in pairwise(levels[:-1]):
        factor *= 1 + (s - t) / 2 * (g[t] + g[s] * (1 + (s - t) * g[t]))
    scale = math.sqrt(1 + levels[0] ** 2) if any_process.variance_preserving else levels[0]
    *_, last = Heun()(perfect_denoiser(any_process, c**2), schedule, noise)
    torch.testing.assert_close(last.x, scale * noise(0) * factor, rtol=1e-9, atol=1e-13)


def test_two_steps_by_hand() -> None:
    """x̂_0 = x/2, σ = 8, 4, 0: slope ½, Euler to 6, slope ¾ there, x = 8 − 4 · ⅝ = 5½, and x̂_0 = 2¾ at last."""
    process, noise = Process.edm(4, 1.0, 8.0), Noise(0, [0], SHAPE)
    denoiser = Denoiser(lambda x, t: x / 2, process, "x0")
    first, second = Heun()(denoiser, Schedule.on_grid([0, 3, 4], process), noise)
    torch.testing.assert_close(first.x, 5.5 * noise(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(second.x, 2.75 * noise(0), rtol=1e-13, atol=0)


def test_it_is_algorithm_1_of_karras_et_al() -> None:
    """With S_churn = 0, in their names, on a network that is nothing like linear."""
    process, noise = Process.edm(40, 0.02, 30.0), Noise(0, range(5), SHAPE)
    weights = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None])).reshape(x.shape)

    path = [40, 31, 18, 6, 1, 0]
    t = [0.0 if n == 0 else 0.02 * (30.0 / 0.02) ** ((n - 1) / 39) for n in path]

    def D(x: np.ndarray, i: int) -> np.ndarray:
        return network(torch.from_numpy(x), torch.full((5,), path[i] - 1.0, dtype=torch.float64)).numpy()

    x = t[0] * noise(0).numpy()
    for i in range(len(path) - 1):
        d = (x - D(x, i)) / t[i]
        x_next = x + (t[i + 1] - t[i]) * d
        if t[i + 1] != 0:
            d_prime = (x_next - D(x_next, i + 1)) / t[i + 1]
            x_next = x + (t[i + 1] - t[i]) * (d / 2 + d_prime / 2)
        x = x_next
    *_, last = Heun()(Denoiser(network, process, "x0"), Schedule.on_grid(path[::-1], process), noise)
    np.testing.assert_allclose(last.x, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("times", [[0, 1], [0, 0.5, 1], [0, 0.1, 0.100001, 0.77, 1]])
def test_k_steps_are_2k_minus_1_calls(perfect_denoiser, times: list[float]) -> None:
    """The second call of a step sees the state that Euler's method arrives at, at time s."""
    process = Process.cosine(40, 1 / 16)
    denoiser = perfect_denoiser(process, 0.25)
    *_, last = Heun()(denoiser, Schedule(times, process), Noise(0, [0], SHAPE))
    assert denoiser.calls == 2 * (len(times) - 1) - 1
    assert bool(torch.isfinite(last.x).all())


def test_nodes_that_coincide_in_log_snr_are_no_move(perfect_denoiser) -> None:
    process = Process.cosine(40, 1 / 16)
    denoiser, noise = perfect_denoiser(process, 0.25), Noise(0, [0], SHAPE)
    twice = Schedule([0, 0.2, 0.5, 0.5 + 1e-13, 1], process)
    *_, mine = Heun()(denoiser, twice, noise)
    *_, once = Heun()(denoiser, Schedule([0, 0.2, 0.5, 1], process), noise)
    torch.testing.assert_close(mine.x, once.x, rtol=1e-9, atol=0)
