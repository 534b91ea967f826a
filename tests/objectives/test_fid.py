"""The yardstick: the judge's own distance, of samples that judge nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewstep.artefacts.features import Features
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.find_schedule import find_schedule
from fewstep.metrics.frechet import FrechetDistance
from fewstep.objectives.fid import Fid
from fewstep.process import Process
from fewstep.sampling import sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.features import KIND, SampleFeatures

PROCESS = Process.cosine(20, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 8, 20], PROCESS)


@pytest.fixture
def model(small_unet: Callable[..., UNet], randomised: Callable[..., UNet]) -> Denoiser:
    return Denoiser(randomised(small_unet(), 0.2).eval(), PROCESS, "v")


def judge(features: Features) -> dict[str, SampleFeatures]:
    return {KIND: SampleFeatures(features.extractor, features.reference, (1, 8, 8), 17)}


@pytest.mark.parametrize("solver", [Ddim(), Ancestral("posterior")], ids=lambda solver: solver.name)
def test_it_is_the_distance_that_judges_samples_and_a_mean_over_seeds(
    solver: Any, model: Denoiser, features: Features
) -> None:
    """Against the metric that evaluations use, on the same samples."""
    of_seeds = []
    for seed in (100, 7):
        metric = FrechetDistance(features.reference)
        images = to_grey_levels(sample(model, solver, SCHEDULE, range(150), seed, (1, 8, 8)), 17)
        with torch.inference_mode():
            metric.update(features.extractor.features(images), torch.arange(150))
        of_seeds.append(metric.compute()[0])
    objective = Fid(solver, samples=150, sample_seeds=[100, 7])
    assert objective.value(judge(features), SCHEDULE, model) == pytest.approx(sum(of_seeds) / 2, rel=1e-6)
    before = model.evaluations
    objective.value(judge(features), SCHEDULE, model)
    assert model.evaluations - before == objective.value_calls(2).total


@pytest.mark.parametrize(
    "settings", [{"samples": 1}, {"sample_seeds": []}, {"sample_seeds": [3, 3]}, {"sample_seeds": [-1]}], ids=str
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Fid(**settings)


def test_a_notebook_has_no_judge(model: Denoiser, features: Features) -> None:
    with pytest.raises(UserError, match="the judge of a run"):
        find_schedule(
            model, PROCESS, torch.zeros(8, 1, 8, 8), [2], objective="fid", search="coordinate", levels=17
        )
    with pytest.raises(UserError, match="runs the network"):
        Fid().value(judge(features), SCHEDULE)
