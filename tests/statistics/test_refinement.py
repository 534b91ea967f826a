"""Few timesteps find the schedules of all of them: within the bound that checks state, on digits and elsewhere."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser, EdmParameterisation
from fewstep.likelihood import bits_per_dim
from fewstep.losses.hybrid import HybridLoss
from fewstep.modules.loggers import NoLogging
from fewstep.objectives.base import Objective
from fewstep.objectives.elbo import ElboObjective
from fewstep.objectives.mse_reweighted import MseReweighted
from fewstep.process import Process
from fewstep.search.regret import best_paths
from fewstep.stages.pretrain import Pretraining, pretrain
from fewstep.statistics.clipped_denoising_error import ClippedDenoisingErrorEstimator
from fewstep.statistics.denoising_error import KIND, DenoisingError
from fewstep.statistics.interpolation import interpolated
from fewstep.statistics.joining import selected_timesteps
from fewstep.statistics.refinement import Refined, even_in_log_snr, refine
from fewstep.weights import load_model

STEPS = (4, 8, 16, 32)
VARIANCES = ("posterior", "beta", "optimal", "learned")


def found_with(whole: DenoisingError, objectives: list[Objective], tolerance: float, steps=STEPS) -> Refined:
    """Refinement that is given the rows of statistics measured before."""
    tables = [
        lambda found, objective=objective: objective.edge_costs({whole.kind: found}) for objective in objectives
    ]
    return refine(partial(selected_timesteps, whole), whole.process, tables, steps, tolerance)


def regrets(whole: DenoisingError, few: DenoisingError, objective: Objective, steps=STEPS) -> list[float]:
    """What the paths chosen from few timesteps cost more than the best, judged on all, in the table's unit."""
    truth, chosen = (objective.edge_costs({whole.kind: known}) for known in (whole, interpolated(few)))
    best, found = (best_paths(table, steps) for table in (truth, chosen))
    return [truth.total(found[K]) - truth.total(best[K]) for K in steps]


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory, small_unet: Callable[..., UNet]) -> Denoiser:
    """Two-headed, of 1,000 timesteps, trained on digits for some seconds."""
    process = Process.cosine(1000, 1 / 16)

    def network() -> Denoiser:
        return Denoiser(small_unet(out_channels=2), process, EdmParameterisation(sigma_data=0.75))

    folder = tmp_path_factory.mktemp("digits") / "model"
    settings = Pretraining(
        iterations=120,
        batch_size=64,
        warmup=10,
        learning_rate=5e-3,
        ema_decay=0.9,
        validate_every=120,
        loss=HybridLoss(levels=17),
    )
    trainer = partial(pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False)
    pretrain(folder, {}, network, Digits(), settings, trainer, NoLogging(), 0)
    return load_model(folder).eval()


@pytest.fixture(scope="module")
def digits(denoiser: Denoiser, measure: Callable[..., DenoisingError]) -> DenoisingError:
    """All 1,000 timesteps."""
    return measure(Digits().images("train")[:16], denoiser)


@pytest.fixture(scope="module")
def clipped(denoiser: Denoiser) -> DenoisingError:
    """All 1,000 timesteps, of x̂_0 clipped and with the decoder by pairs."""
    estimator = ClippedDenoisingErrorEstimator(
        Digits().images("train")[:8], None, split="train", levels=17, indices=range(1, 1001), seed=0, batch_size=8
    )
    with torch.inference_mode():
        rows = [estimator.measure(denoiser, row) for row in range(1000)]
    return estimator.collect(denoiser.process, rows)


@pytest.mark.parametrize("variance", VARIANCES)
def test_on_digits_twenty_times_fewer_calls_lose_a_hundredth_of_a_bit_at_most(
    digits: DenoisingError, variance: str
) -> None:
    objective = ElboObjective(variance)
    refined = found_with(digits, [objective], 0.01)
    lost = bits_per_dim(max(regrets(digits, refined.measured, objective)), 64)
    print(
        f"{variance}: {len(refined.measured.indices)} of 1,000 timesteps, {refined.measured.calls:,} calls for "
        f"{digits.calls:,}; bound {refined.regret_bound:.4f}, lost {lost:.5f} bits/dim"
    )
    assert lost <= refined.regret_bound <= 0.01
    assert 20 * refined.measured.calls <= digits.calls


@pytest.mark.parametrize("decoder, measured", [("additive", "digits"), ("improved_diffusion", "clipped")])
def test_one_set_of_timesteps_serves_all_variances(
    decoder: str, measured: str, request: pytest.FixtureRequest
) -> None:
    whole: DenoisingError = request.getfixturevalue(measured)
    objectives = [ElboObjective(variance, decoder) for variance in VARIANCES]
    refined = found_with(whole, objectives, 0.01)
    for objective in objectives:
        assert bits_per_dim(max(regrets(whole, refined.measured, objective)), 64) <= refined.regret_bound
    assert refined.regret_bound <= 0.01
    assert 20 * refined.measured.calls <= whole.calls


def test_more_is_measured_where_less_may_be_lost(digits: DenoisingError) -> None:
    objective = ElboObjective("optimal")
    counts = [len(found_with(digits, [objective], tolerance).measured.indices) for tolerance in (0.1, 0.01, 0.005)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_an_objective_without_a_unit_of_likelihood_is_bounded_by_a_share_of_its_cost(
    digits: DenoisingError,
) -> None:
    objective = MseReweighted()
    refined = found_with(digits, [objective], 0.01)
    truth = objective.edge_costs({KIND: digits})
    best = best_paths(truth, STEPS)
    for K, lost in zip(STEPS, regrets(digits, refined.measured, objective), strict=True):
        assert lost <= 0.01 * truth.total(best[K])
    assert 20 * refined.measured.calls <= digits.calls


def bumpy(process: Process, height: float) -> Denoiser:
    """E[x_0 | x_t] of N(0, I/4), off by a bump that is narrower than the spacing of the first timesteps."""

    def network(x: Tensor, time: Tensor) -> Tensor:
        t = (time.double() + 1) / process.T
        alpha, variance = process.alpha(t), process.sigma(t).square()
        gain = alpha / 4 / (alpha.square() / 4 + variance)
        bump = height * torch.exp(-((process.log_snr(t) - 1.0) / 0.6).square())
        return ((gain + bump)[:, None, None, None] * x).to(x)

    return Denoiser(network, process, "x0")


def test_a_bump_that_a_check_meets_is_resolved(measure, grey_images) -> None:
    process, objective = Process.cosine(600, 1 / 16), ElboObjective("posterior")
    images = grey_images(8)
    places = {}
    for height in (0.0, 0.6):
        whole = measure(images, bumpy(process, height))
        refined = found_with(whole, [objective], 0.01, steps=(4, 8))
        assert bits_per_dim(max(regrets(whole, refined.measured, objective, (4, 8))), 4) <= 0.01
        log_snr = process.log_snr(refined.measured.times)
        places[height] = int(((log_snr - 1.0).abs() < 1.0).sum())
    assert places[0.6] > places[0.0]


def test_a_short_grid_is_measured_whole(measure, grey_images) -> None:
    process = Process.cosine(40, 1 / 16)
    whole = measure(grey_images(4), bumpy(process, 0.0))
    refined = found_with(whole, [ElboObjective()], 0.01, steps=(4,))
    assert refined.measured.indices.tolist() == list(range(1, 41))
    assert refined.regret_bound == 0


@pytest.mark.parametrize("n", [2, 12, 40])
def test_the_first_timesteps_are_even_in_log_snr(any_process: Process, n: int) -> None:
    indices = even_in_log_snr(any_process, n)
    assert indices == sorted(set(indices))
    assert {1, 2, any_process.T} <= set(indices)
    log_snr = any_process.log_snr(any_process.grid[indices])
    spacing = (log_snr[0] - log_snr[-1]).item() / (n - 1)
    largest = -any_process.log_snr(any_process.grid[1:]).diff().min().item()
    assert math.ceil(log_snr.diff().abs().max().item()) <= math.ceil(spacing + 2 * largest)
