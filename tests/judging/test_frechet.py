"""Fréchet rows: the floor of real images, and samples whose distance depends on nothing but their indices."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.artefacts.features import Features
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.judging.frechet import floor_rows, sample_rows
from fewstep.judging.settings import Evaluation, Judge
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.results import Result
from fewstep.sampling import ROWS, sample, to_grey_levels
from fewstep.schedule import Schedule
from fewstep.solvers.ancestral import Ancestral
from fewstep.solvers.ddim import Ddim
from fewstep.statistics.covariance import DataCovariance
from tests.quiet_trainer import quiet_trainer

T = 12
PROCESS = Process.cosine(T, 1 / 16)
SAMPLES = ROWS + 9  # two blocks, the second one padded
LABELS = {
    "dataset": "digits",
    "process": "cosine",
    "schedule_optimizer": "even",
    "train_seed": 0,
    "finetuned": False,
}


@pytest.fixture(scope="module")
def denoiser(perfect_denoiser: Callable[..., Denoiser]) -> Denoiser:
    """The best linear one for digits."""
    covariance = DataCovariance.of(Digits().images("train"))
    matrix = (covariance.eigenvectors * covariance.eigenvalues) @ covariance.eigenvectors.T
    return perfect_denoiser(PROCESS, matrix, covariance.mean)


def judge_of(features: Features, **settings: int) -> Judge:
    return Judge(
        settings=Evaluation(**{"samples": SAMPLES} | settings),
        solvers={"ddim": Ddim(), "ancestral": Ancestral("posterior")},
        features=features,
        shape=(1, 8, 8),
        levels=17,
        trainer=lambda description: quiet_trainer(),
    )


def row(features: Features, denoiser: Denoiser, solver: str = "ddim", seed: int = 0, **settings: int) -> Result:
    schedule = Schedule.on_grid([0, 4, T], PROCESS)
    (found,) = sample_rows(judge_of(features, **settings), denoiser, solver, schedule, seed, LABELS)
    return found


def compared(
    features: Features, denoiser: Denoiser, fine: Tensor, path: list[int], **settings: int
) -> list[Result]:
    """The rows of `distance_pixels` and `distance_features`."""
    judge = judge_of(features, **settings)
    schedule = Schedule.on_grid(path, PROCESS)
    frechet, *found = sample_rows(judge, denoiser, "ddim", schedule, 0, LABELS, fine)
    assert frechet.metric == "fid_digits"
    return found


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Heusel et al. 2017; tr (Σ_a Σ_b)^½ from the eigenvalues of the product itself."""
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(sigma_a @ sigma_b).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sigma_a + sigma_b) - 2 * root)


def of(features: Features, images: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return features.extractor.features(images.float()).double().numpy()


def ddim_samples(denoiser: Denoiser, seed: int, indices: Sequence[int]) -> Tensor:
    """Two steps of Euler's method on dx̄/dσ̄ = (x̄ − x̂_0)/σ̄, x̄ = x/α: the deterministic DDIM."""
    times = PROCESS.grid[[4, T]]
    x = Noise(seed, indices, (1, 8, 8))(0)
    near, far = times
    x0 = denoiser(x, far).x0
    slope = (x / PROCESS.alpha(far) - x0) / PROCESS.noise_level(far)
    x = PROCESS.alpha(near) * (x0 + PROCESS.noise_level(near) * slope)
    return denoiser(x, near).x0


@pytest.mark.parametrize("seed", [0, 4])
def test_the_distance_is_that_of_the_samples_rounded_to_grey_levels(
    seed: int, features: Features, denoiser: Denoiser
) -> None:
    found = row(features, denoiser, seed=seed)
    images = to_grey_levels(ddim_samples(denoiser, seed, range(SAMPLES)), 17)
    expected = distance(of(features, images), of(features, Digits().images("train")))
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert found.standard_error is not None
    assert 0 < found.standard_error < found.value


def test_the_row_states_what_it_is_of(features: Features, denoiser: Denoiser) -> None:
    found = row(features, denoiser, "ancestral", seed=4)
    assert (found.metric, found.solver, found.variance, found.sample_seed) == (
        *("fid_digits", "ancestral", "posterior", 4),
    )
    assert (found.steps, found.nfe, found.n_images, found.split) == (2, 2, SAMPLES, "train")
    assert row(features, denoiser).variance is None


@pytest.mark.parametrize("solver", ["ddim", "ancestral"])
def test_no_bit_of_the_distance_depends_on_the_batch_size(
    solver: str, features: Features, denoiser: Denoiser
) -> None:
    rows = [row(features, denoiser, solver, batch_size=batch_size) for batch_size in (50, ROWS, 1000)]
    assert rows[0] == rows[1] == rows[2]


def test_rows_of_one_seed_share_their_noise(features: Features, denoiser: Denoiser) -> None:
    assert row(features, denoiser, seed=1) == row(features, denoiser, seed=1)
    assert row(features, denoiser, seed=1).value != row(features, denoiser, seed=2).value


def test_the_floor_is_of_real_test_images_with_both_sizes_known(features: Features) -> None:
    (found,) = floor_rows(judge_of(features), Digits(), LABELS)
    digits = Digits()
    expected = distance(of(features, digits.images("test")), of(features, digits.images("train")))
    assert found.value == pytest.approx(expected, rel=1e-5)  # of float32 features, here in blocks
    assert (found.schedule_optimizer, found.dataset, found.n_images, found.split) == (
        "data",
        "digits",
        360,
        "train",
    )
    assert (found.process, found.steps, found.solver, found.finetuned, found.train_seed) == (None,) * 5


def test_real_images_are_nearer_than_samples_of_a_linear_model(features: Features, denoiser: Denoiser) -> None:
    (floor,) = floor_rows(judge_of(features), Digits(), LABELS)
    assert floor.value < row(features, denoiser).value


def test_distances_to_the_fine_steps_are_those_of_the_samples_themselves(
    features: Features, denoiser: Denoiser
) -> None:
    n, path = ROWS + 3, [0, 4, T]
    fine = sample(denoiser, Ddim(), Schedule.on_grid(range(T + 1), PROCESS), range(n), 0, (1, 8, 8))
    pixels, in_features = compared(features, denoiser, fine, path)
    mine = ddim_samples(denoiser, 0, range(n))
    expected = ((mine - fine) ** 2).mean((1, 2, 3)).sqrt()
    assert (pixels.metric, pixels.n_images, pixels.steps, pixels.nfe, pixels.sample_seed) == (
        *("distance_pixels", n, 2, 2, 0),
    )
    assert pixels.value == pytest.approx(expected.mean().item(), rel=1e-6)
    assert pixels.standard_error == pytest.approx((expected.std() / n**0.5).item(), rel=1e-6)
    apart = np.linalg.norm(of(features, mine) - of(features, fine), axis=1)
    assert in_features.value == pytest.approx(apart.mean(), rel=1e-4)
    again = compared(features, denoiser, fine, path, batch_size=300)
    assert again == [pixels, in_features]


def test_the_fine_steps_themselves_lie_at_zero(features: Features, denoiser: Denoiser) -> None:
    path = [0, 2, 5, 9, T]
    fine = sample(denoiser, Ddim(), Schedule.on_grid(path, PROCESS), range(20), 0, (1, 8, 8))
    assert [row.value for row in compared(features, denoiser, fine, path)] == [0.0, 0.0]
