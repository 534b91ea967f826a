"""Statistics grow until they are good enough, and no image is measured twice at a timestep."""

import math

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.regret import best_paths
from fewstep.statistics.denoising_error import KIND, DenoisingError, DenoisingErrorEstimator
from fewstep.statistics.growing import FIRST_IMAGES, GrowingStatistics, Needs, grow
from fewstep.statistics.interpolation import interpolated

PROCESS = Process.cosine(200, 1 / 16)
STEPS = [3, 8]


class Asked:
    """Measures what it is asked for, and remembers what that was."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.seen: list[tuple[int, int]] = []
        self.denoiser = Denoiser(lambda x, time: torch.tanh(1.2 * x) * 0.8, PROCESS, "x0")

    def __call__(self, indices, numbers: range) -> DenoisingError:
        self.seen += [(index, image) for index in indices for image in numbers]
        estimator = DenoisingErrorEstimator(
            self.images[numbers.start : numbers.stop],
            None,
            split="train",
            levels=17,
            indices=indices,
            seed=0,
            batch_size=64,
            first=numbers.start,
            extensible=True,
        )
        rows = [estimator.measure(self.denoiser, row) for row in range(len(estimator))]
        return estimator.collect(PROCESS, rows)


@pytest.fixture
def asked(grey_images) -> Asked:
    return Asked(grey_images(300))


def grown(asked: Asked, needs: Needs, objectives=None, images: int = FIRST_IMAGES):
    statistics = GrowingStatistics(asked, images)
    objectives = objectives or [ElboObjective(variance) for variance in ("posterior", "optimal")]
    return grow(statistics, PROCESS, objectives, KIND, STEPS, needs, len(asked.images))


@pytest.mark.parametrize("regret", [0.01, None], ids=["few timesteps", "all timesteps"])
def test_images_are_doubled_until_the_standard_error_is_small(asked: Asked, regret: float | None) -> None:
    wanted = 0.1
    found = grown(asked, Needs(regret, wanted))
    n = found.measured.n_images
    assert math.log2(n / FIRST_IMAGES).is_integer()
    assert found.standard_error <= wanted
    assert found.standard_error > wanted / 4  # half as many would not have done, far fewer not by far
    # No image is measured twice at a timestep, and every call of the network is counted.
    assert len(set(asked.seen)) == len(asked.seen) == found.calls == asked.denoiser.evaluations
    # What is stated is the standard error of the paths' totals over these very images.
    statistics = {KIND: interpolated(found.measured)}
    errors = []
    for variance in ("posterior", "optimal"):
        objective = ElboObjective(variance)
        for K in STEPS:
            path = best_paths(objective.edge_costs(statistics), [K])[K]
            nats = objective.image_values(statistics, Schedule.on_grid(path, PROCESS))
            errors.append(nats.std().item() / math.sqrt(n) / (4 * math.log(2)))
    assert found.standard_error == pytest.approx(max(errors))


def test_they_are_what_measuring_at_once_gives(asked: Asked) -> None:
    found = grown(asked, Needs(0.01, 0.1)).measured
    assert found.n_images > FIRST_IMAGES
    at_once = Asked(asked.images)(found.indices.tolist(), range(found.n_images))
    torch.testing.assert_close(found.error, at_once.error, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.decoder_of_error, at_once.decoder_of_error, rtol=1e-6, atol=1e-12)
    assert found.by_variance is None


def test_the_whole_split_is_the_most(asked: Asked) -> None:
    found = grown(asked, Needs(0.01, 1e-6))
    assert found.measured.n_images == 300
    assert found.standard_error > 1e-6
    assert len(set(asked.seen)) == len(asked.seen) == found.calls


def test_images_that_are_given_are_all_used(asked: Asked) -> None:
    found = grown(asked, Needs(0.01, None), images=300)
    assert found.measured.n_images == 300
    assert found.calls == 300 * len(found.measured.indices) < 300 * PROCESS.T


def test_an_objective_without_values_of_images_has_no_standard_error(asked: Asked) -> None:
    found = grown(asked, Needs(0.01, None), [MseReweighted()])
    assert math.isnan(found.standard_error)
