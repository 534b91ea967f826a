"""The change in bits/dim: a difference of two models, with the error of the images' own differences."""

import math
from collections.abc import Callable

import pytest
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.likelihood import Likelihood
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError

T = 12
PROCESS = Process.cosine(T, 1 / 16)
SCHEDULE = Schedule.on_grid([0, 2, 7, T], PROCESS, {"split": "train"})
LABELS = {"schedule_optimizer": "even", "dataset": "digits", "train_seed": 3, "finetuned": True}

Measured = Callable[..., DenoisingError]


@pytest.fixture
def of_model(
    measure: Measured, grey_images: Callable[..., Tensor], perfect_denoiser: Callable[..., Denoiser]
) -> Measured:
    """Statistics of the denoiser that is perfect for Gaussian data of some variance."""

    def of(variance: float, n: int = 9, split: str = "test") -> DenoisingError:
        denoiser = perfect_denoiser(PROCESS, variance)
        fitted = measure(grey_images(20, seed=1), denoiser)
        return measure(grey_images(n), denoiser, split=split, fitted=fitted)

    return of


@pytest.mark.parametrize("variance", ["posterior", "beta", "optimal"])
def test_it_is_the_difference_of_two_rows_and_its_error_that_of_the_differences(
    variance: str, of_model: Measured
) -> None:
    tuned, untuned = of_model(0.3), of_model(0.5)
    row = Likelihood(variance, "additive", LABELS).row_of_change(tuned, untuned, SCHEDULE)
    after, before = (
        Likelihood(variance, "additive", LABELS).row(measured, SCHEDULE) for measured in (tuned, untuned)
    )
    assert row.value == pytest.approx(after.value - before.value, abs=1e-12)
    assert row.value != 0
    objective = ElboObjective(variance)
    nats = objective.image_values({KIND: tuned}, SCHEDULE) - objective.image_values({KIND: untuned}, SCHEDULE)
    bits = nats / (tuned.dimensions * math.log(2))
    assert row.standard_error == pytest.approx(bits.std().item() / 3, rel=1e-9)
    assert (row.metric, row.variance, row.steps, row.nfe, row.split) == (
        "bits_per_dim_change",
        variance,
        3,
        3,
        "test",
    )
    assert (row.n_images, row.decoder, row.finetuned) == (9, after.decoder, True)


def test_a_model_that_was_not_changed_has_changed_by_nothing_for_certain(of_model: Measured) -> None:
    row = Likelihood("beta", "additive", LABELS).row_of_change(of_model(0.3), of_model(0.3), SCHEDULE)
    assert (row.value, row.standard_error) == (0, 0)


@pytest.mark.parametrize("other", [{"n": 8}, {"split": "validation"}])
def test_other_images_are_refused(other: dict, of_model: Measured) -> None:
    with pytest.raises(UserError, match="on the same images only; given were 9 of 'test' and"):
        Likelihood("beta", "additive", LABELS).row_of_change(of_model(0.3), of_model(0.3, **other), SCHEDULE)
