"""Values of objectives on held-out images, and what they are called."""

from collections.abc import Callable

import pytest
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.objective_values import Configured, labelled, objective_row
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError

PROCESS = Process.cosine(12, 1 / 16)
LABELS = {"dataset": "grey", "process": "linear", "schedule_optimizer": "mine", "finetuned": False}


@pytest.fixture(scope="module")
def judged(
    perfect_denoiser: Callable[..., Denoiser],
    measure: Callable[..., DenoisingError],
    grey_images: Callable[..., Tensor],
) -> DenoisingError:
    denoiser = perfect_denoiser(PROCESS, 0.3)
    return measure(grey_images(5), denoiser, split="test", indices=[2, 7, 12])


def test_the_value_is_the_sum_over_steps_and_its_error_is_over_images(judged: DenoisingError) -> None:
    schedule = Schedule.on_grid([0, 2, 7, 12], PROCESS, {"split": "train"})
    row = objective_row("mse_reweighted", MseReweighted(), {KIND: judged}, schedule, LABELS)
    lengths = [2 / 12, 5 / 12, 5 / 12]
    by_image = sum(length * judged.error[i] for i, length in enumerate(lengths))
    assert row.metric == "objective_mse_reweighted"
    assert row.value == pytest.approx(by_image.mean().item(), rel=1e-12)
    assert row.standard_error == pytest.approx(by_image.std().item() / 5**0.5, rel=1e-12)
    assert (row.steps, row.n_images, row.split, row.variance, row.decoder) == (3, 5, "test", None, None)


def test_a_likelihood_states_its_variance_and_decoder(judged: DenoisingError) -> None:
    schedule = Schedule.on_grid([0, 2, 12], PROCESS)
    row = objective_row("elbo", ElboObjective("beta"), {KIND: judged}, schedule, LABELS)
    assert (row.variance, row.decoder) == ("beta", "additive")


def test_the_split_behind_the_search_cannot_judge(judged: DenoisingError) -> None:
    schedule = Schedule.on_grid([0, 2, 12], PROCESS, {"split": "test"})
    with pytest.raises(UserError, match="searched on the split 'test' cannot be judged on it"):
        objective_row("mse_reweighted", MseReweighted(), {KIND: judged}, schedule, LABELS)


def test_equal_objectives_are_one_and_namesakes_are_told_apart() -> None:
    elbo, other = ElboObjective("beta"), ElboObjective("optimal")
    settings = {"_target_": "elbo", "variance": "beta", "decoder": "additive"}
    found = labelled(
        [
            Configured(elbo, settings),
            Configured(MseReweighted(), {"_target_": "mse"}),
            Configured(elbo, dict(settings)),
            Configured(other, settings | {"variance": "optimal"}),
        ]
    )
    assert {label: one.objective.name for label, one in found.items()} == {
        "elbo[variance=beta]": "elbo",
        "mse_reweighted": "mse_reweighted",
        "elbo[variance=optimal]": "elbo",
    }
