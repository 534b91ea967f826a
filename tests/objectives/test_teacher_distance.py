"""The distance to the teacher against what is known of Gaussian data, by every deterministic solver."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.noise import Noise
from fewstep.objectives.teacher_distance import TeacherDistance
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.coordinate import Coordinate
from fewstep.search.starts import RULES
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.solvers.dpmpp_2m import Dpmpp2M
from fewstep.solvers.heun import Heun
from fewstep.statistics.teacher_trajectories import KIND, TeacherTrajectories, TeacherTrajectoriesEstimator

T, C = 60, 0.5
PROCESS = Process.edm(T, 0.01, 30.0)
SCHEDULE = Schedule.on_grid([0, 12, 25, 40, T], PROCESS)


def trajectories(
    denoiser: Denoiser, number: int = 12, steps: int = T, shape: tuple[int, int, int] = (1, 2, 2)
) -> dict[str, TeacherTrajectories]:
    """The kind's statistics; of images of another shape than the network's, as it looks at nothing else."""
    estimator = TeacherTrajectoriesEstimator(
        torch.zeros(2, *shape),
        None,
        split="train",
        levels=256,
        seed=0,
        batch_size=32,
        trajectories=number,
        steps=steps,
    )
    with torch.inference_mode():
        measured = [estimator.measure(denoiser, row) for row in range(len(estimator))]
    return {KIND: estimator.collect(denoiser.process, measured)}


@pytest.fixture(scope="module")
def gaussian(perfect_denoiser: Callable[..., Denoiser]) -> Denoiser:
    return perfect_denoiser(PROCESS, C**2)


def test_of_gaussian_data_it_is_the_difference_of_two_products_of_cosines(gaussian: Denoiser) -> None:
    """Both samplers multiply the noise: by Π cos Δθ, times the exact solution's c/√(c² + σ²)."""
    statistics = trajectories(gaussian)
    teacher = statistics[KIND]

    def gain(indices: list[int]) -> float:
        angles = torch.atan(PROCESS.noise_level(PROCESS.grid[indices]) / C)
        return torch.cos(angles.diff()).prod().item() * math.cos(angles[-1])

    start = PROCESS.sigma(PROCESS.grid[-1]) * teacher.noise(0)
    expected = ((gain(SCHEDULE.indices) - gain(teacher.indices)) * start).square().flatten(1).sum(1)
    for batch_size in (5, 100):
        found = TeacherDistance(batch_size=batch_size).image_values(statistics, SCHEDULE, gaussian)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-10)
    assert TeacherDistance(trajectories=7).image_values(statistics, SCHEDULE, gaussian).shape == (7,)


def test_the_teachers_own_nodes_are_at_no_distance(gaussian: Denoiser) -> None:
    statistics = trajectories(gaussian, steps=20)
    own = Schedule.on_grid(statistics[KIND].indices, PROCESS)
    assert TeacherDistance().value(statistics, own, gaussian) < 1e-12


@pytest.mark.parametrize("start", RULES)
def test_its_best_schedule_of_gaussian_data_is_even_in_angle(start: str, gaussian: Denoiser) -> None:
    """By DDIM, from every start; the sampler itself is run, and nothing is known of angles."""
    search = Coordinate(100, [start], data_std=1.5)
    found = search(TeacherDistance(trajectories=4), trajectories(gaussian, 4), gaussian, [4])[4]
    angles = torch.atan(PROCESS.noise_level(PROCESS.grid) / C)
    even = torch.linspace(0, angles[-1].item(), 5, dtype=torch.float64)
    assert (angles[found.indices] - even).abs().max() < 0.08  # a cell of the grid is up to 0.07
    assert found.provenance["solver"] == "ddim"
    assert found.provenance["found"]["network_calls"] == 16 * found.provenance["found"]["evaluations"]


def test_each_solver_has_a_schedule_of_its_own_that_serves_it_best(gaussian: Denoiser) -> None:
    statistics, solvers = trajectories(gaussian, 4), (Ddim(), Dpmpp2M(), Heun())
    objectives = {solver.name: TeacherDistance(solver) for solver in solvers}
    search = Coordinate(60, ["log_snr", "tangent"])
    found = {name: search(objective, statistics, gaussian, [5])[5] for name, objective in objectives.items()}
    for name, objective in objectives.items():
        values = {of: objective.value(statistics, schedule, gaussian) for of, schedule in found.items()}
        assert min(values, key=values.__getitem__) == name
        assert found[name].provenance["solver"] == name


# Features of the middle block


@pytest.fixture
def unet(small_unet: Callable[..., UNet], randomised: Callable[..., UNet]) -> Denoiser:
    return Denoiser(randomised(small_unet(), 0.2).eval(), PROCESS, "edm")


def test_features_are_the_middle_blocks_and_equal_images_are_at_no_distance(unet: Denoiser) -> None:
    objective = TeacherDistance(space="denoiser_features", trajectories=4)
    statistics = trajectories(unet, 4, steps=10, shape=(1, 8, 8))
    own = Schedule.on_grid(statistics[KIND].indices, PROCESS)
    assert objective.value(statistics, own, unet) < 1e-8
    before = unet.evaluations
    values = objective.image_values(statistics, SCHEDULE, unet)
    assert unet.evaluations - before == objective.value_calls(4).total == 4 * (4 + 2)
    assert (values > 0).all()
    assert not unet.backbone.middle_block._forward_hooks
    noise = statistics[KIND].noise
    *_, last = Ddim()(unet, SCHEDULE, Noise(0, noise.indices[:1], noise.shape))
    activations = []
    for image in (last.x, statistics[KIND].D[0, :1].double()):
        t = PROCESS.grid[1:][(PROCESS.noise_level(PROCESS.grid[1:]).log() - math.log(0.1)).abs().argmin()]
        x = PROCESS.add_noise(image, t, noise(1)[:1])
        activations.append(middle_of(unet, x, t))
    assert (activations[0] - activations[1]).square().sum().item() == pytest.approx(values[0].item(), rel=1e-3)


def middle_of(unet: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """The middle block's output, by the network's own parts."""
    seen: list[Tensor] = []
    backbone: Any = unet.backbone
    whole = backbone.middle_block.forward
    backbone.middle_block.forward = lambda h, embedding: seen.append(whole(h, embedding)) or seen[-1]
    try:
        unet(x, t)
    finally:
        del backbone.middle_block.forward
    return seen[0].double()


def test_a_network_without_a_middle_block_is_told(gaussian: Denoiser) -> None:
    with pytest.raises(UserError, match="no module called middle_block or mid_block; take space=pixels"):
        TeacherDistance(space="denoiser_features").value(trajectories(gaussian, 2), SCHEDULE, gaussian)


# What cannot be


def test_a_solver_that_adds_noise_is_refused() -> None:
    for solver in (Ancestral(), Ddim(eta=0.5)):
        with pytest.raises(UserError, match="allowed are solvers that add none"):
            TeacherDistance(solver)


@pytest.mark.parametrize(
    "settings",
    [{"space": "inception"}, {"trajectories": 1}, {"batch_size": 0}, {"feature_noise_level": 0.0}],
    ids=str,
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        TeacherDistance(**settings)


def test_what_does_not_fit_the_trajectories_is_one_sentence(
    gaussian: Denoiser, unet: Denoiser, perfect_denoiser: Callable[..., Denoiser]
) -> None:
    objective, statistics = TeacherDistance(), trajectories(gaussian, 2, steps=3)
    with pytest.raises(UserError, match="teacher of 3 steps cannot judge a schedule of 4"):
        objective.value(statistics, SCHEDULE, gaussian)
    with pytest.raises(UserError, match="runs the network"):
        objective.value(statistics, SCHEDULE)
    with pytest.raises(UserError, match="'teacher_trajectories'; given were none"):
        objective.value({}, SCHEDULE, gaussian)
    other = Process.edm(T, 0.02, 30.0)
    with pytest.raises(UserError, match="made for"):
        objective.value(statistics, Schedule.on_grid(SCHEDULE.indices, other), perfect_denoiser(other, C**2))
    with pytest.raises(UserError, match="are of"):
        objective.check_statistics(statistics, perfect_denoiser(other, C**2))
    of_unet = trajectories(unet, 2, steps=5, shape=(1, 8, 8))
    of_others = {KIND: replace(of_unet[KIND], weights="another")}
    with pytest.raises(UserError, match="other weights"):
        objective.check_statistics(of_others, unet)
    with pytest.raises(UserError, match="other weights"):
        Coordinate()(objective, of_others, unet, [3])
