"""The fixed rules, each recomputed from its formula; their ends, rounding and collisions."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.process import Process
from fewstep.search.base import FixedRule
from fewstep.search.even import Even
from fewstep.search.karras import Karras
from fewstep.search.log_snr import LogSnr
from fewstep.search.quadratic import Quadratic
from fewstep.search.tangent import Tangent

PROCESSES = [
    Process.linear(1000),
    Process.cosine(1000),
    Process.cosine(1000, 1 / 16),
    Process.cosine(50),
    Process.edm(200),
    Process.edm(64, 0.1, 5),
]
RULES = [Even(), Quadratic(), LogSnr(17), LogSnr(256), Karras(7, 17), Karras(3, 256), Tangent(0.4, 17)]
Spacing = Callable[[float, float, int], np.ndarray]


def indices(rule: FixedRule, process: Process, K: int) -> list[int]:
    return rule(None, {}, Denoiser(lambda x, t: x, process, "x0"), [K])[K].indices


def settled(positions: np.ndarray, T: int) -> list[int]:
    """Nearest index, half to even; a taken one gives way upwards; node i of K may go as far as T − (K − i)."""
    K = len(positions)
    found = [0]
    for position in positions:
        found.append(max(int(np.rint(position)), found[-1] + 1))
    found[K] = T
    return [0] + [min(found[i], T - (K - i)) for i in range(1, K + 1)]


def of_noise_levels(process: Process, spacing: Spacing, levels: int, K: int) -> list[int]:
    """A rule's indices from `spacing(σ_0, σ_max, K)`, the K + 1 noise levels that it names."""
    known = process.noise_level(process.grid[1:]).numpy()
    wanted = spacing(1 / (levels - 1), min(known[-1], 80.0), K)[1:]
    positions = np.interp(np.log(wanted), np.log(known), np.arange(1, process.T + 1))
    return settled(positions, process.T)


def geometric(low: float, high: float, K: int) -> np.ndarray:
    return np.geomspace(low, high, K + 1)


def karras(rho: float) -> Spacing:
    """Karras et al. 2022, eq. 5, in ascending order."""

    def levels(low: float, high: float, K: int) -> np.ndarray:
        i = np.arange(K + 1)[::-1]
        return (high ** (1 / rho) + i / K * (low ** (1 / rho) - high ** (1 / rho))) ** rho

    return levels


def tangent(c: float) -> Spacing:
    """Align Your Steps, Theorem 3.1."""

    def levels(low: float, high: float, K: int) -> np.ndarray:
        i = np.arange(K + 1) / K
        return c * np.tan((1 - i) * np.arctan(low / c) + i * np.arctan(high / c))

    return levels


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("K", [1, 2, 4, 8, 16, 32, 50])
def test_every_rule_is_its_formula(process: Process, K: int) -> None:
    T = process.T
    assert indices(Even(), process, K) == settled(np.array([T * i / K for i in range(1, K + 1)]), T)
    assert indices(Quadratic(), process, K) == settled(np.array([T * (i / K) ** 2 for i in range(1, K + 1)]), T)
    for levels in (17, 256):
        found = indices(LogSnr(levels), process, K)
        assert found == of_noise_levels(process, geometric, levels, K)
        for rho in (3, 7):
            assert indices(Karras(rho, levels), process, K) == of_noise_levels(process, karras(rho), levels, K)
        for c in (0.25, 0.5, 1.0):
            assert indices(Tangent(c, levels), process, K) == of_noise_levels(process, tangent(c), levels, K)


@settings(max_examples=200)
@given(st.sampled_from(RULES), st.data())
def test_k_distinct_ascending_timesteps_that_end_at_t(rule: FixedRule, data: st.DataObject) -> None:
    T = data.draw(st.integers(21, 120))
    make = data.draw(st.sampled_from([Process.linear, Process.cosine, Process.edm]))
    K = data.draw(st.integers(1, T))
    found = indices(rule, make(T), K)
    assert (found[0], found[-1], len(found)) == (0, T, K + 1)
    assert all(a < b for a, b in pairwise(found))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("process", [Process.linear(30), Process.cosine(30), Process.edm(30)], ids=repr)
def test_as_many_steps_as_timesteps_take_them_all(rule: FixedRule, process: Process) -> None:
    assert indices(rule, process, 30) == list(range(31))
    assert indices(rule, process, 1) == [0, 30]


@given(st.integers(2, 3000), st.data())
def test_even_stride_never_collides(T: int, data: st.DataObject) -> None:
    K = data.draw(st.integers(1, T))
    found = indices(Even(), Process.edm(T), K)
    assert all(abs(index - T * i / K) <= 0.5 for i, index in enumerate(found))


def test_collisions_move_up_and_give_way_at_the_end() -> None:
    class Crowded(FixedRule):
        name = "crowded"

        def __init__(self, *nodes: float) -> None:
            self.nodes = nodes

        def positions(self, process: Process, K: int) -> torch.Tensor:
            return torch.tensor(self.nodes, dtype=torch.float64)

    process = Process.edm(10)
    assert indices(Crowded(1, 1, 1, 10), process, 4) == [0, 1, 2, 3, 10]
    assert indices(Crowded(0.2, 0.4, 2.5, 10), process, 4) == [0, 1, 2, 3, 10]
    assert indices(Crowded(9, 10, 10, 10), process, 4) == [0, 7, 8, 9, 10]
    assert indices(Crowded(4, 8.6, 9.4, 9.9, 10), process, 5) == [0, 4, 7, 8, 9, 10]
    assert indices(Crowded(3.5, 4.5, 9), process, 3) == [0, 4, 5, 10]  # halves go to the even 4; its twin moves up


@pytest.mark.parametrize("rule", [LogSnr(17), Karras(7, 17), Tangent(0.4, 17)], ids=lambda rule: rule.name)
def test_no_node_is_spent_above_80_but_the_first_is_t(rule: FixedRule) -> None:
    process = Process.cosine(4000)
    assert process.noise_level(process.grid[-1]).item() > 1000
    found = indices(rule, process, 16)
    below = process.noise_level(process.grid[found[-2]]).item()
    assert found[-1] == 4000
    assert below < 80
    # The spacing above the last but one is the rule's own towards 80, not towards σ_T/α_T.
    spacing = {"log_snr": geometric, "karras": karras(7), "tangent": tangent(0.4)}
    expected = spacing[rule.name](1 / 16, 80.0, 16)[-2]
    neighbours = process.noise_level(process.grid[[found[-2] - 1, found[-2] + 1]]).tolist()
    assert neighbours[0] < expected < neighbours[1]


def test_the_smallest_level_is_half_a_grey_level() -> None:
    """On a process that starts there, log-SNR spacing is even stride from the first timestep on."""
    process = Process.edm(1001, 1 / 16, 80)
    assert indices(LogSnr(17), process, 10) == [0, *range(101, 1002, 100)]


def test_the_angles_of_a_cosine_process_are_a_tangent_law() -> None:
    """Even stride on its angles and `tangent` with c = 1 agree where the ends do."""
    process = Process.cosine(2000, 1 / 16)
    found = indices(Tangent(1.0, 17), process, 8)[1:-1]
    angles = torch.atan(process.noise_level(process.grid[found]))
    expected = np.linspace(math.atan(1 / 16), math.atan(80), 9)[1:-1]
    np.testing.assert_allclose(angles, expected, atol=math.pi / 2 / 2000)


def test_schedules_come_for_every_k_and_say_their_rule() -> None:
    process = Process.cosine(100)
    for rule in RULES:
        found = rule(None, {}, Denoiser(lambda x, t: x, process, "x0"), [3, 1, 10])
        assert list(found) == [3, 1, 10]
        assert [schedule.steps for schedule in found.values()] == [3, 1, 10]
        assert all(schedule.provenance == {"search": rule.name} for schedule in found.values())
        assert not rule.needs_objective


@pytest.mark.parametrize("steps", [[0], [-3], [101], [4, 4], [2.0], [True], ["8"], []])
def test_steps_that_are_none(steps: list) -> None:
    denoiser = Denoiser(lambda x, t: x, Process.cosine(100), "x0")
    with pytest.raises(UserError, match=r"[Nn]umbers? of steps"):
        Even()(None, {}, denoiser, steps)


def test_settings_that_are_none() -> None:
    for rho in (0, -7, math.nan):
        with pytest.raises(UserError, match="ρ must be positive"):
            Karras(rho)
    for std in (0, -1.0, math.nan):
        with pytest.raises(UserError, match="standard deviation must be positive"):
            Tangent(std)
    for rule in (LogSnr(1), Karras(7, 1), Tangent(0.5, 0)):
        with pytest.raises(UserError, match="at least 2 grey levels"):
            indices(rule, Process.cosine(100), 4)
