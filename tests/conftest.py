"""Exact oracles that many tests share: Gaussian data with its perfect denoiser, and statistics of any."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from fewstep.artefacts.features import Features
from fewstep.backbones.classifier import Classifier
from fewstep.backbones.unet import UNet
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.metrics.frechet import FeatureMoments
from fewstep.process import Process
from fewstep.statistics.denoising_error import DenoisingError, DenoisingErrorEstimator
from fewstep.weights import save_model
from tests.inception_weights import random_weights

settings.register_profile("fewstep", deadline=None, max_examples=40, derandomize=True, database=None)
settings.load_profile("fewstep")


@dataclass(frozen=True)
class PerfectBackbone:
    """E[x_0 | x_t] for data N(mean, covariance), as a network that returns x̂_0.

    x̂_0 = μ + α C (α² C + σ² I)^{-1} (x_t − α μ).

    Attributes:
        process: the process of the x_t that it is given.
        mean: μ, [D] or a number.
        eigenvalues: of C, [D] or one number c² for C = c² I.
        eigenvectors: [D, D], columns; None for C = c² I.
    """

    process: Process
    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor | None

    def __call__(self, x: Tensor, timestep: Tensor) -> Tensor:
        t = (timestep.double() + 1) / self.process.T
        alpha, sigma = self.process.alpha(t)[:, None], self.process.sigma(t)[:, None]
        gain = alpha * self.eigenvalues / (alpha.square() * self.eigenvalues + sigma.square())
        centred = x.double().flatten(1) - alpha * self.mean
        basis = self.eigenvectors
        moved = gain * centred if basis is None else gain * (centred @ basis) @ basis.T
        return (self.mean + moved).reshape(x.shape).to(x.dtype)


@pytest.fixture(scope="session")
def perfect_denoiser() -> Callable[..., Denoiser]:
    """(process, covariance, mean) → the exact denoiser of N(mean, covariance); a number c² stands for c² I."""

    def make(process: Process, covariance: Tensor | float, mean: Tensor | float = 0.0) -> Denoiser:
        covariance = torch.as_tensor(covariance, dtype=torch.float64)
        eigenvalues, eigenvectors = torch.linalg.eigh(covariance) if covariance.ndim else (covariance, None)
        mean = torch.as_tensor(mean, dtype=torch.float64)
        return Denoiser(PerfectBackbone(process, mean, eigenvalues, eigenvectors), process, "x0")

    return make


@pytest.fixture(scope="session")
def measure() -> Callable[..., DenoisingError]:
    """(images, denoiser, …) → the statistics that the estimator measures."""

    def make(
        images: Tensor,
        denoiser: Denoiser,
        *,
        levels: int = 17,
        split: str = "train",
        indices: list[int] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        fitted: DenoisingError | None = None,
    ) -> DenoisingError:
        estimator = DenoisingErrorEstimator(
            images,
            None,
            split=split,
            levels=levels,
            indices=range(1, denoiser.process.T + 1) if indices is None else indices,
            seed=seed,
            batch_size=batch_size,
            fitted=fitted,
        )
        with torch.inference_mode():
            measured = [estimator.measure(denoiser, row) for row in range(len(estimator))]
        return estimator.collect(denoiser.process, measured)

    return make


@pytest.fixture(scope="session")
def grey_images() -> Callable[..., Tensor]:
    """(n, shape, levels, seed) → random float64 images on grey levels in [-1, 1], darker ones more often."""

    def make(n: int, shape: tuple[int, int, int] = (1, 2, 2), levels: int = 17, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(n, *shape, generator=generator, dtype=torch.float64)
        return (uniform.square() * levels).floor() / (levels - 1) * 2 - 1

    return make


SMALL_UNET: dict[str, Any] = {
    "image_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "num_res_blocks": 1,
    "channel_mult": [1],
    "attention_resolutions": [],
    "num_heads": 1,
    "num_groups": 2,
}


@pytest.fixture(scope="session")
def small_unet() -> Callable[..., UNet]:
    """(changed arguments) → a network for digits of 8 channels as it is before training."""

    def make(**changes: Any) -> UNet:
        return UNet(**SMALL_UNET | changes)

    return make


@pytest.fixture(scope="session")
def randomised() -> Callable[[UNet, float], UNet]:
    """(network, std) → the network, random in every layer, so that no layer hides another."""

    def make(network: UNet, std: float) -> UNet:
        generator = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * std)
        return network

    return make


@pytest.fixture(scope="session")
def save_small_model(small_unet: Callable[..., UNet]) -> Callable[..., Path]:
    """(folder, process, seed) → the folder, with a model for digits of 8 channels, random in every layer."""

    def make(folder: Path, process: Process, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        network = small_unet()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        save_model(folder, Denoiser(network, process, "v"), (1, 8, 8), 17)
        return folder

    return make


@pytest.fixture(scope="session")
def features() -> Features:
    """The judge of digits, with an extractor that has learned nothing."""
    torch.manual_seed(0)
    extractor = Classifier(in_channels=1, image_size=8, num_classes=10, width=4, num_features=6).eval()
    with torch.inference_mode():
        moments = FeatureMoments.of(extractor.features(Digits().images("train")))
    return Features("digits", extractor, moments, accuracy=0.25, n_test=360)


@pytest.fixture(
    params=["linear", "linear from 1/16", "cosine", "cosine from 1/16", "edm"],
    scope="session",
)
def any_process(request: pytest.FixtureRequest) -> Process:
    """Every kind of process, T = 40."""
    makers = {
        "linear": lambda: Process.linear(40),
        "linear from 1/16": lambda: Process.linear(40, 1 / 16),
        "cosine": lambda: Process.cosine(40),
        "cosine from 1/16": lambda: Process.cosine(40, 1 / 16),
        "edm": lambda: Process.edm(40, 0.02, 30.0),
    }
    return makers[request.param]()


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published file of Inception weights, with random numbers in it."""
    path = tmp_path_factory.mktemp("inception") / "weights-inception-2015-12-05-6726825d.pth"
    torch.save(random_weights(), path)
    return path
