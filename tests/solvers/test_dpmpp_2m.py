"""DPM-Solver++(2M) against closed forms, DDIM, and the paper's algorithm."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M

SHAPE = (1, 2, 2)
PATHS = [[0, 40], [0, 13, 40], [0, 1, 2, 17, 33, 40], list(range(41))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("c", [0.3, 1.0])
def test_its_recursion_on_gaussian_data(any_process: Process, perfect_denoiser, path: list[int], c: float) -> None:
    """In z = x/α, where x̂_0 = c²/(c² + σ̄²) z: z_s = ρ z_t + (1 − ρ) D with ρ = σ̄_s/σ̄_t.

    D is the line through the last two predictions over log σ̄, read in the middle of the step.
    """
    schedule, noise = Schedule.on_grid(path, any_process), Noise(0, range(3), SHAPE)
    levels = schedule.sigmas()
    scale = math.sqrt(1 + levels[0] ** 2) if any_process.variance_preserving else levels[0]
    z, predictions = [1.0], []
    for i in range(len(levels) - 1):
        predictions.append(z[i] * c**2 / (c**2 + levels[i] ** 2))
        D, shrink = predictions[-1], levels[i + 1] / levels[i]
        if i > 0 and levels[i + 1] > 0:
            line = np.polyfit(np.log(levels[i - 1 : i + 1]), predictions[-2:], 1)
            D = np.polyval(line, math.log(levels[i] * levels[i + 1]) / 2)
        z.append(shrink * z[i] + (1 - shrink) * D)
    *_, last = Dpmpp2M()(perfect_denoiser(any_process, c**2), schedule, noise)
    torch.testing.assert_close(last.x, scale * noise(0) * z[-1], rtol=1e-8, atol=1e-13)


def crooked(process: Process) -> Denoiser:
    weights = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ weights / (1 + timestep[:, None] / process.T)).reshape(x.shape)

    return Denoiser(network, process, "x0")


@pytest.mark.parametrize("path", [[0, 40], [0, 13, 40]])
def test_one_and_two_steps_are_ddims(any_process: Process, path: list[int]) -> None:
    """The first step and the last are first order; a third one in between is not."""
    denoiser, noise = crooked(any_process), Noise(0, range(3), SHAPE)
    schedule = Schedule.on_grid(path, any_process)
    for mine, theirs in zip(Dpmpp2M()(denoiser, schedule, noise), Ddim()(denoiser, schedule, noise), strict=True):
        torch.testing.assert_close(mine.x, theirs.x, rtol=1e-10, atol=1e-12)
    longer = Schedule.on_grid([0, 5, *path[-2:]] if len(path) > 2 else [0, 5, 13, 40], any_process)
    (*_, mine, _), (*_, theirs, _) = Dpmpp2M()(denoiser, longer, noise), Ddim()(denoiser, longer, noise)
    assert (mine.x - theirs.x).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("path", "states"),
    [
        ([0, 2, 3, 4], (6, 4.25, 2.125)),
        ([0, 1, 2, 4], (5, 3.5625, 1.78125)),
        ([0, 1, 3, 4], (6, 3, 1.5)),
    ],
)
def test_three_steps_by_hand(path: list[int], states: tuple[float, ...]) -> None:
    """x̂_0 = x/2 on σ = 1, 2, 4, 8.

    From 8 over 2 to 1: D = 4, x = 8/4 + ¾ · 4 = 5; then x̂_0 = 2½, h/h_before = ½, D = 2½ + ¼ (2½ − 4) = 2⅛,
    x = 5/2 + 2⅛/2 = 3 9/16; and at last half of it.
    """
    process, noise = Process.edm(4, 1.0, 8.0), Noise(0, [0], SHAPE)
    steps = Dpmpp2M()(Denoiser(lambda x, t: x / 2, process, "x0"), Schedule.on_grid(path, process), noise)
    for step, state in zip(steps, states, strict=True):
        torch.testing.assert_close(step.x, state * noise(0), rtol=1e-13, atol=0)


def test_it_is_algorithm_2_of_lu_et_al() -> None:
    """In their names, from a list of β; their last step, to ε > 0, is ours to t_1."""
    process = Process.linear(40)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4 * 25, 0.02 * 25, 40))
    path = [40, 37, 26, 11, 3, 1]
    alpha = np.array([math.sqrt(alpha_bar[n - 1]) for n in path])
    sigma = np.array([math.sqrt(1 - alpha_bar[n - 1]) for n in path])
    lam = np.log(alpha / sigma)
    denoiser, noise = crooked(process), Noise(0, range(5), SHAPE)

    def x_theta(x: np.ndarray, i: int) -> np.ndarray:
        return denoiser(torch.from_numpy(x), process.grid[path[i]]).x0.numpy()

    x = noise(0).numpy()
    buffer = [x_theta(x, 0)]
    x = sigma[1] / sigma[0] * x - alpha[1] * math.expm1(-(lam[1] - lam[0])) * buffer[0]
    for i in range(2, len(path)):
        buffer.append(x_theta(x, i - 1))
        h = lam[i] - lam[i - 1]
        r = (lam[i - 1] - lam[i - 2]) / h
        D = (1 + 1 / (2 * r)) * buffer[-1] - 1 / (2 * r) * buffer[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * D
    *_, to_first_node, last = Dpmpp2M()(denoiser, Schedule.on_grid([0, *path[::-1]], process), noise)
    np.testing.assert_allclose(to_first_node.x, x, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(last.x, x_theta(x, len(path) - 1), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gap", [0.0, 1e-13, 1e-9])
def test_nodes_too_close_to_extrapolate_over_are_a_sentence(gap: float) -> None:
    process = Process.cosine(40, 1 / 16)
    denoiser = crooked(process)
    near = math.nextafter(0.5, 1) if gap == 0 else 0.5 + gap
    noise = Noise(0, [0], SHAPE)
    sentence = re.escape(f"cannot run a schedule that steps from time {near!r} to 0.5: that is ")
    with pytest.raises(UserError, match=sentence):
        next(iter(Dpmpp2M()(denoiser, Schedule([0, 0.2, 0.5, near, 1], process), noise)))
    with pytest.raises(UserError, match="more than a millionth of the next"):
        next(iter(Dpmpp2M()(denoiser, Schedule([0, 0.2, 0.4, 0.5, near, near + 1e-13, 1], process), noise)))
    assert denoiser.calls == 0
    # Nothing is extrapolated over the pair where it is the first step's end, or the last step follows.
    *_, last = Dpmpp2M()(denoiser, Schedule([0, 0.5, near, 1], process), noise)
    assert bool(torch.isfinite(last.x).all())


@pytest.mark.parametrize("path", [[0, 1, 2000, 2001, 4000], [0, 1, 2, 4000], [0, 1, 3999, 4000]])
def test_no_schedule_of_a_grid_is_too_uneven(path: list[int]) -> None:
    for process in (Process.linear(4000), Process.cosine(4000), Process.edm(4000)):
        *_, last = Dpmpp2M()(crooked(process), Schedule.on_grid(path, process), Noise(0, [0], SHAPE))
        assert bool(torch.isfinite(last.x).all())
