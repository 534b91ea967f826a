"""Bits/dim above the full grid's: a difference on the same images, with the error of that difference."""

import math
from collections.abc import Callable

import pytest
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.judging.likelihood import Likelihood
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND, DenoisingError

T = 12
PROCESS = Process.cosine(T, 1 / 16)
FULL = Schedule(PROCESS.grid, PROCESS)
LABELS = {"schedule_optimizer": "even", "dataset": "digits", "train_seed": 3, "finetuned": False}
PATHS = ([0, 2, 7, T], [0, 1, 3, T])


@pytest.fixture
def measured(
    measure: Callable[..., DenoisingError],
    grey_images: Callable[..., Tensor],
    perfect_denoiser: Callable[..., Denoiser],
) -> DenoisingError:
    denoiser = perfect_denoiser(PROCESS, 0.3)
    return measure(grey_images(9), denoiser, split="test", fitted=measure(grey_images(20, seed=1), denoiser))


@pytest.mark.parametrize("variance", ["posterior", "beta", "optimal"])
def test_it_is_the_difference_of_two_rows(variance: str, measured: DenoisingError) -> None:
    schedule = Schedule.on_grid(PATHS[0], PROCESS)
    row = Likelihood(variance, "additive", LABELS).row_above_full_grid(measured, schedule)
    few, all_of_them = (
        Likelihood(variance, "additive", LABELS).row(measured, one).value for one in (schedule, FULL)
    )
    assert row.value == pytest.approx(few - all_of_them, abs=1e-12)
    assert (row.metric, row.steps, row.n_images, row.split) == ("bits_per_dim_above_full", 3, 9, "test")


@pytest.mark.parametrize("variance", ["posterior", "beta", "optimal"])
def test_two_rows_bound_the_error_of_their_difference(variance: str, measured: DenoisingError) -> None:
    schedules = [Schedule.on_grid(path, PROCESS) for path in PATHS]
    errors = [
        Likelihood(variance, "additive", LABELS).row_above_full_grid(measured, s).standard_error for s in schedules
    ]
    nats = [ElboObjective(variance).image_values({KIND: measured}, schedule) for schedule in schedules]
    bits = (nats[0] - nats[1]) / (measured.dimensions * math.log(2))
    assert None not in errors
    assert 0 < bits.std().item() / 3 <= sum(error or 0 for error in errors)


def test_the_full_grid_is_above_itself_by_nothing_for_certain(measured: DenoisingError) -> None:
    row = Likelihood("beta", "additive", LABELS).row_above_full_grid(measured, FULL)
    assert (row.value, row.standard_error) == (0, 0)
