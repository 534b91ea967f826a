"""Bits/dim: a direct computation from per-image sums, and never on the split that was searched or fitted on."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.judging.likelihood import Likelihood
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import DenoisingError

T, C2 = 12, 0.3
PROCESS = Process.cosine(T, 1 / 16)
LABELS = {"schedule_optimizer": "elbo_dp", "dataset": "digits", "train_seed": 3, "finetuned": False}


def schedule(split: str | None = "train") -> Schedule:
    return Schedule.on_grid([0, 2, 7, T], PROCESS, {} if split is None else {"split": split})


@pytest.fixture(scope="module")
def denoiser(perfect_denoiser: Callable[..., Denoiser]) -> Denoiser:
    return perfect_denoiser(PROCESS, C2)


@pytest.fixture(scope="module")
def images(grey_images: Callable[..., Tensor]) -> Tensor:
    return grey_images(9)


@pytest.fixture(scope="module")
def fitted(
    measure: Callable[..., DenoisingError], grey_images: Callable[..., Tensor], denoiser: Denoiser
) -> DenoisingError:
    return measure(grey_images(20, seed=1), denoiser)


@pytest.fixture(scope="module")
def judged(
    measure: Callable[..., DenoisingError], images: Tensor, denoiser: Denoiser, fitted: DenoisingError
) -> DenoisingError:
    return measure(images, denoiser, split="test", fitted=fitted)


def nats_by_hand(judged: DenoisingError, fitted: DenoisingError, variance: str) -> Tensor:
    """Prior + decoder + KL of every step, from α, σ and the per-image errors; Gaussians written out."""
    nodes, D = [2, 7, T], 4
    alpha, sigma2 = PROCESS.alpha(PROCESS.grid), PROCESS.sigma(PROCESS.grid) ** 2
    total = judged.prior.clone()
    total += (judged.decoder_of_error if variance == "optimal" else judged.decoder_of_process)[nodes[0] - 1]
    for s, t in pairwise(nodes):
        forward = sigma2[t] - (alpha[t] / alpha[s]) ** 2 * sigma2[s]
        posterior, c = forward * sigma2[s] / sigma2[t], alpha[s] * forward / sigma2[t]
        own = {
            "posterior": posterior,
            "beta": forward,
            "optimal": posterior + c**2 * fitted.error[t - 1].mean() / D,
        }[variance]
        distance = c**2 * judged.error[t - 1]
        total += 0.5 * (D * (torch.log(own / posterior) - 1 + posterior / own) + distance / own)
    return total


@pytest.mark.parametrize("variance", ["posterior", "beta", "optimal"])
def test_the_row_is_a_direct_computation(variance: str, judged: DenoisingError, fitted: DenoisingError) -> None:
    row = Likelihood(variance, "additive", LABELS).row(judged, schedule())
    bits = nats_by_hand(judged, fitted, variance) / (4 * math.log(2))
    assert row.value == pytest.approx(bits.mean().item(), rel=1e-10)
    assert row.standard_error == pytest.approx(bits.std().item() / 3, rel=1e-8)
    assert (row.metric, row.variance, row.decoder, row.split) == ("bits_per_dim", variance, "additive", "test")
    assert (row.steps, row.nfe, row.n_images, row.solver) == (3, 3, 9, None)
    assert (row.schedule_optimizer, row.train_seed, row.finetuned) == ("elbo_dp", 3, False)


def test_a_schedule_searched_on_the_judging_split_is_refused(judged: DenoisingError) -> None:
    with pytest.raises(UserError, match="searched or fitted on the split 'test' cannot be judged on it"):
        Likelihood("posterior", "additive", LABELS).row(judged, schedule("test"))


@pytest.mark.parametrize("split", ["train", None])
def test_a_variance_fitted_on_the_judging_split_is_refused(
    split: str | None, measure: Callable[..., DenoisingError], images: Tensor, denoiser: Denoiser
) -> None:
    with pytest.raises(UserError, match="searched or fitted on the split 'test' cannot be judged on it"):
        Likelihood("optimal", "additive", LABELS).row(measure(images, denoiser, split="test"), schedule(split))


def test_a_fixed_rule_was_searched_on_no_split(judged: DenoisingError) -> None:
    fixed = Likelihood("optimal", "additive", LABELS).row(judged, schedule(None))
    assert fixed.value == Likelihood("optimal", "additive", LABELS).row(judged, schedule()).value


def test_a_schedule_of_another_process_is_refused(judged: DenoisingError) -> None:
    other = Schedule.on_grid([0, 2, 7, T], Process.cosine(T, 0.1))
    with pytest.raises(UserError, match=r"made for Process\.cosine"):
        Likelihood("beta", "additive", LABELS).row(judged, other)


def test_a_timestep_that_was_not_measured_is_named(
    measure: Callable[..., DenoisingError], images: Tensor, denoiser: Denoiser, fitted: DenoisingError
) -> None:
    some = measure(images, denoiser, split="test", indices=[2, T], fitted=fitted)
    with pytest.raises(UserError, match=r"lack the timesteps \[7\]"):
        Likelihood("beta", "additive", LABELS).row(some, schedule())
