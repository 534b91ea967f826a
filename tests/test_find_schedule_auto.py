"""`find_schedule` measures few timesteps, and as many images as it takes where that is asked for."""

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.likelihood import bits_per_dim
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.statistics.denoising_error import KIND

T = 400
PROCESS = Process.cosine(T, 1 / 16)
IMAGES = Digits().images("train")[:150]
STEPS = [4, 12]


def network(x: Tensor, time: Tensor) -> Tensor:
    """A shrunken x_t, not good, as x̂_0."""
    t = (time.double() + 1) / T
    alpha, variance = PROCESS.alpha(t), PROCESS.sigma(t).square()
    return (torch.tanh(1.3 * x) * (alpha / (alpha.square() + 2 * variance))[:, None, None, None]).to(x)


def denoiser() -> Denoiser:
    return Denoiser(network, PROCESS, "x0")


def search(model: Denoiser, **more):
    return fewstep.find_schedule(model, PROCESS, IMAGES, STEPS, levels=17, progress=False, **more)


def test_few_timesteps_are_the_default_and_lose_little(measure) -> None:
    few, every = denoiser(), denoiser()
    found, expected = search(few), search(every, timesteps="all")
    assert every.evaluations == len(IMAGES) * T
    assert few.evaluations < every.evaluations / 5
    assert few.evaluations % len(IMAGES) == 0
    statistics, objective = {KIND: measure(IMAGES, denoiser())}, ElboObjective()
    for K in STEPS:
        lost = objective.value(statistics, found[K]) - objective.value(statistics, expected[K])
        assert 0 <= bits_per_dim(lost, 64) <= 0.01


def test_a_standard_error_takes_the_first_images_alone() -> None:
    model = denoiser()
    found = search(model, standard_error=0.5)
    alone = denoiser()
    expected = fewstep.find_schedule(alone, PROCESS, IMAGES[:32], STEPS, levels=17, progress=False)
    assert found == expected
    assert model.evaluations == alone.evaluations


def test_where_it_is_not_reached_all_images_are_used() -> None:
    model, given = denoiser(), denoiser()
    assert search(model, standard_error=1e-9, labels=None) == search(given)
    assert model.evaluations % len(IMAGES) == 0


@pytest.mark.parametrize(
    "more, sentence",
    [
        ({"timesteps": "some"}, "timesteps is 'some'; allowed are auto and all"),
        ({"standard_error": 0.0}, "standard_error is 0.0; it must be positive"),
        (
            {"standard_error": 0.1, "objective": MseReweighted()},
            "needs an objective in bits/dim, such as elbo; mse_reweighted is in squared error",
        ),
    ],
)
def test_what_cannot_be_used_is_a_sentence(more, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        search(denoiser(), **more)
