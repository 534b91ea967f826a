"""e(t) over the linear denoiser's error: 1 for that denoiser itself, and what is wrong shows at its timestep."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.judging.health import wiener_row
from fewstep.noise import Noise
from fewstep.process import Process
from fewstep.results import Result
from fewstep.statistics.denoising_error import DenoisingError

T, N = 10, 8
PROCESS = Process.cosine(T, 1 / 16)
LABELS = {"dataset": "grey", "process": "cosine", "schedule_optimizer": None, "train_seed": 0, "finetuned": False}


class Grey:
    """Random grey images."""

    name = "grey"
    shape = (1, 2, 2)
    levels = 17

    def __init__(self, train: Tensor, test: Tensor) -> None:
        self.splits = {"train": train, "test": test}
        self.train = train

    def images(self, split: str) -> Tensor:
        return self.splits[split]

    def labels(self, split: str) -> Tensor:
        return torch.zeros(len(self.splits[split]), dtype=torch.int64)


@pytest.fixture(scope="module")
def dataset(grey_images: Callable[..., Tensor]) -> Grey:
    return Grey(grey_images(60).float(), grey_images(40, seed=1).float())


@pytest.fixture(scope="module")
def measured(
    dataset: Grey, perfect_denoiser: Callable[..., Denoiser], measure: Callable[..., DenoisingError]
) -> DenoisingError:
    """Of the linear denoiser with the training data's own mean and covariance."""
    flat = dataset.train.double().flatten(1)
    return measure(dataset.train[:N], perfect_denoiser(PROCESS, torch.cov(flat.T), flat.mean(0)))


def row(dataset: Grey, measured: DenoisingError) -> Result:
    return wiener_row(dataset, measured, LABELS)


def test_the_ratio_of_the_linear_denoiser_to_itself_is_one(dataset: Grey, measured: DenoisingError) -> None:
    found = row(dataset, measured)
    assert found.value == pytest.approx(1, rel=1e-9)
    assert (found.metric, found.n_images, found.split) == ("wiener_ratio_max", N, "train")


@pytest.mark.parametrize("index", [1, 6, T])
def test_a_timestep_that_is_worse_gives_the_ratio(index: int, dataset: Grey, measured: DenoisingError) -> None:
    error = measured.error.clone()
    error[index - 1] *= 1.3
    found = row(dataset, dataclasses.replace(measured, error=error))
    assert found.value == pytest.approx(1.3, rel=1e-9)
    wiener = measured.error[index - 1].mean()
    spread = error[index - 1].std() / math.sqrt(N) / wiener
    assert found.standard_error == pytest.approx(spread.item(), rel=1e-9)


def test_a_network_better_than_any_linear_one_is_below_one(
    dataset: Grey, measured: DenoisingError, measure: Callable[..., DenoisingError]
) -> None:
    """One that knows the answer."""
    x0 = dataset.train[:N].double()
    knowing = Denoiser(lambda x, time: x0[: len(x)], PROCESS, "x0")
    assert row(dataset, measure(dataset.train[:N], knowing)).value == 0


def test_both_errors_are_on_the_same_noise(
    dataset: Grey,
    measured: DenoisingError,
    perfect_denoiser: Callable[..., Denoiser],
    measure: Callable[..., DenoisingError],
) -> None:
    """With a few images the error depends on the noise; the ratio of the linear denoiser to itself does not."""
    flat = dataset.train.double().flatten(1)
    other = measure(dataset.train[:N], perfect_denoiser(PROCESS, torch.cov(flat.T), flat.mean(0)), seed=5)
    assert not torch.equal(Noise(5, range(N), (1, 2, 2))(0), Noise(0, range(N), (1, 2, 2))(0))
    assert (other.error.mean(1) / measured.error.mean(1) - 1).abs().max() > 0.01
    assert row(dataset, other).value == pytest.approx(1, rel=1e-9)


def test_the_covariance_is_the_training_splits_whatever_split_is_measured(
    dataset: Grey, perfect_denoiser: Callable[..., Denoiser], measure: Callable[..., DenoisingError]
) -> None:
    """The linear denoiser of the training images is 1 on test images too; that of the test images is not."""
    test = dataset.images("test")

    def ratio(images: Tensor) -> float:
        flat = images.double().flatten(1)
        linear = perfect_denoiser(PROCESS, torch.cov(flat.T), flat.mean(0))
        return row(dataset, measure(test[:N], linear, split="test")).value

    assert ratio(dataset.train) == pytest.approx(1, rel=1e-9)
    assert abs(ratio(test) - 1) > 0.01
