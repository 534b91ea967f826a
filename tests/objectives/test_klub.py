"""Align Your Steps' bound: with an ideal denoiser the negative ELBO, but for a constant."""

from typing import Any

import pytest
import torch

from fewstep.denoiser import Denoiser
from fewstep.objectives.klub import Klub
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.dp import optimal_paths
from fewstep.statistics.forward_paths import Estimator, ForwardPaths
from tests.conftest import PerfectBackbone

C, DIMENSIONS, STEPS = 0.5, 64, 30
PROCESS = Process.cosine(200, 1 / 16)


@pytest.fixture(scope="module")
def paths() -> dict[str, ForwardPaths]:
    """Of data N(0, c² I) with the exact denoiser."""
    draw = torch.Generator().manual_seed(0)
    images = C * torch.randn(256, 1, 8, 8, generator=draw, dtype=torch.float64)
    denoiser = Denoiser(PerfectBackbone(PROCESS, torch.zeros(()), torch.tensor(C**2), None), PROCESS, "x0")
    settings: dict[str, Any] = {"split": "train", "levels": 17, "seed": 0, "batch_size": 32}
    estimator = Estimator(images, None, **settings, steps=STEPS)
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
    return {"forward_paths": estimator.collect(PROCESS, rows)}


def test_it_is_the_negative_elbo_but_for_a_constant(paths: dict[str, ForwardPaths]) -> None:
    """½ (SNR_s − SNR_t) e(t) less ½ ∫ e dSNR over the step, a constant in sum; e = D c²σ²/(c² + σ²)."""
    squared = paths["forward_paths"].noise_levels[1:].square()
    snr, error = 1 / squared, DIMENSIONS * C**2 * squared / (C**2 + squared)
    elbo = (snr[:, None] - snr) * error / 2
    cells = (snr[:-1] - snr[1:]) * (error[1:] + error[:-1]) / 4
    below = torch.cat([torch.zeros(1, dtype=torch.float64), cells.cumsum(0)])
    costs, above = Klub().edge_costs(paths).costs, torch.ones(STEPS, STEPS).triu(1).bool()
    expected = elbo - (below - below[:, None])
    torch.testing.assert_close(costs[1:, 1:][above], expected[above], rtol=0.03, atol=0.02)
    ideal = torch.full_like(costs, torch.inf)
    ideal[1:, 1:][above] = elbo[above]
    ideal[0, 1:] = (snr[0] - snr) * error / 2
    ours, theirs = optimal_paths(costs, [3, 5]), optimal_paths(ideal, [3, 5])
    for K in (3, 5):  # as good as the best path by the ELBO, if not the same
        lengths = [ideal[path[:-1], path[1:]].sum().item() for path in (ours[K], theirs[K])]
        assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)


def test_along_a_path_the_distance_of_two_outputs_is_what_the_error_loses(paths: dict[str, ForwardPaths]) -> None:
    D, squared = paths["forward_paths"].D.double().flatten(2), paths["forward_paths"].noise_levels[1:].square()
    error = DIMENSIONS * C**2 * squared / (C**2 + squared)
    for s, t in [(0, 10), (5, 15), (12, 29)]:
        distance = (D[s] - D[t]).square().sum(1).mean().item()
        assert distance == pytest.approx((error[t] - error[s]).item(), rel=0.05)


def test_its_slope_is_that_of_its_values(paths: dict[str, ForwardPaths]) -> None:
    """Between fine nodes, by differences: value and loss look at the same paths."""
    times = torch.tensor([0, 0.2013, 0.4531, 0.7717, 1], dtype=torch.float64).requires_grad_()
    network = Denoiser(lambda x, time: x, PROCESS, "x0")
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    (slope,) = torch.autograd.grad(Klub().loss(network, nothing, times, nothing, paths), times)
    for i in (1, 2, 3):
        ends = []
        for step in (-1e-5, 1e-5):
            moved = times.detach().clone()
            moved[i] += step
            ends.append(Klub().value(paths, Schedule(moved, PROCESS)))
        assert slope[i].item() == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-4)
