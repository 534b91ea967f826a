"""improved-diffusion's figures by its own arithmetic, against an implementation of its own.

That one is written from the description of what image_nll.py computes: the betas of the respaced process in
float64, coefficients cast to float32 when they are used, everything else in float32, x̂_0 and posterior
log-variances clipped, Φ by tanh with clamped logarithms, the prior at the last retained timestep, and one network
call for each of them.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.data.base import image_numbers
from fewstep.denoiser import Denoiser, EpsParameterisation
from fewstep.noise import Noise
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.statistics.clipped_denoising_error import KIND, ClippedDenoisingErrorEstimator
from fewstep.statistics.image_sums import DenoisingError
from fewstep.statistics.tanh_decoder import TanhDecoderEstimator

SHAPE, LEVELS, N, SEED = (3, 16, 16), 256, 6, 5
SPREAD = 0.01  # of images around a known one, in [−1, 1]
KNOWN = 1.1 * torch.sin(torch.arange(768.0)).reshape(1, *SHAPE)  # beyond both ends of the range too
KINDS = ["posterior", "beta", "learned"]
T = {"linear": 1000, "cosine": 4000}
PROCESSES = {"linear": Process.linear(1000), "cosine": Process.cosine(4000)}


class NoiseAndFraction(nn.Module):
    """A float32 network that predicts the noise of images near a known one, not quite exactly, and a variance.

    Few even strides from the first timestep cost many bits with any worse network, and float32 does not hold five
    decimals of them.
    """

    num_classes = 3

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.weight = nn.Parameter(torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)) / 5)

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        t = self.process.grid[(time.double() * self.process.T / 1000).round().long() + 1]
        alpha, sigma = (
            level.float().reshape(-1, 1, 1, 1) for level in (self.process.alpha(t), self.process.sigma(t))
        )
        hidden = nn.functional.conv2d(x, self.weight, padding=1) + 0.1 * label.reshape(-1, 1, 1, 1)
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = KNOWN + gain * (x - alpha * KNOWN) + 0.003 * torch.sin(hidden[:, :3])
        return torch.cat([(x - alpha * x0) / sigma, 1.4 * torch.sin(hidden[:, 3:] + sigma)], dim=1)


def even(count: int, total: int) -> list[int]:
    """The retained grid indices of `timestep_respacing=<count>`: from the first to the last, rounded."""
    return [0, *(round(j * (total - 1) / (count - 1)) + 1 for j in range(count))]


def arbitrary(count: int, total: int) -> list[int]:
    inner = np.random.default_rng(count).choice(np.arange(1, total), count - 1, replace=False)
    return [0, *sorted(inner.tolist()), total]


PATHS: dict[str, Callable[[int], list[int]]] = {
    "4 even": lambda total: even(4, total),
    "25 even": lambda total: even(25, total),
    "2 arbitrary": lambda total: arbitrary(2, total),
    "9 arbitrary": lambda total: arbitrary(9, total),
    "30 arbitrary": lambda total: arbitrary(30, total),
    "neighbours": lambda total: [0, 1, 2, 3, 5, 9, total // 2, total],
    "late": lambda total: [0, total - 2, total],
}


class ImageNll:
    """The evaluation of a respaced process; `retained` are timesteps counted from 0, ascending."""

    def __init__(self, betas: np.ndarray, retained: list[int], network: nn.Module, kind: str) -> None:
        self.retained, self.network, self.kind, self.total = retained, network, kind, len(betas)
        kept = np.cumprod(1 - betas)[retained]
        before = np.append(1.0, kept[:-1])
        beta = 1 - kept / before
        posterior = beta * (1 - before) / (1 - kept)
        self.signal, self.noise = np.sqrt(kept), np.sqrt(1 - kept)
        self.recip, self.recip_noise = np.sqrt(1 / kept), np.sqrt(1 / kept - 1)
        self.of_x0 = beta * np.sqrt(before) / (1 - kept)
        self.of_xt = (1 - before) * np.sqrt(1 - beta) / (1 - kept)
        self.clipped = np.log(np.append(posterior[1], posterior[1:]))
        self.large, self.log_beta = np.log(np.append(posterior[1], beta[1:])), np.log(beta)
        self.log_end = np.log(1 - kept)

    def bits_per_dim(self, x0: Tensor, noise: Callable[[int], Tensor], label: Tensor) -> Tensor:
        terms = []
        for j in reversed(range(len(self.retained))):
            terms.append(self._term(j, x0, noise(self.retained[j]), label))
        mean, log_variance = f32(self.signal[-1]) * x0, f32(self.log_end[-1])
        prior = divergence(mean, log_variance, torch.zeros(()), torch.zeros(()))
        return torch.stack(terms, dim=1).sum(1) + flat_mean(prior)

    def _term(self, j: int, x0: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        x_t = f32(self.signal[j]) * x0 + f32(self.noise[j]) * noise
        time = torch.full((len(x0),), self.retained[j]).float() * (1000 / self.total)
        eps, values = self.network(x_t, time, label).chunk(2, dim=1)
        predicted = (f32(self.recip[j]) * x_t - f32(self.recip_noise[j]) * eps).clamp(-1, 1)
        true_mean, mean = (f32(self.of_x0[j]) * x + f32(self.of_xt[j]) * x_t for x in (x0, predicted))
        low, high, share = f32(self.clipped[j]), f32(self.log_beta[j]), (values + 1) / 2
        log_variance = {
            "posterior": low.expand_as(x0),
            "beta": f32(self.large[j]).expand_as(x0),
            "learned": share * high + (1 - share) * low,
        }[self.kind]
        if j == 0:
            return flat_mean(-log_likelihood(x0, mean, 0.5 * log_variance))
        return flat_mean(divergence(true_mean, low, mean, log_variance))


def f32(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64).float()


def flat_mean(nats: Tensor) -> Tensor:
    return nats.flatten(1).mean(1) / math.log(2)


def divergence(mean1: Tensor, log1: Tensor, mean2: Tensor, log2: Tensor) -> Tensor:
    return 0.5 * (-1 + log2 - log1 + torch.exp(log1 - log2) + (mean1 - mean2) ** 2 * torch.exp(-log2))


def log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    centred, inverse = x - mean, torch.exp(-log_deviation)

    def phi(u: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u.pow(3))))

    above, below = phi(inverse * (centred + 1 / 255)), phi(inverse * (centred - 1 / 255))
    inner, outer = (torch.log(p.clamp(min=1e-12)) for p in (above - below, 1 - below))
    return torch.where(x < -0.999, torch.log(above.clamp(min=1e-12)), torch.where(x > 0.999, outer, inner))


def published_betas(name: str) -> np.ndarray:
    total = T[name]
    if name == "linear":
        return np.linspace(0.0001 * 1000 / total, 0.02 * 1000 / total, total, dtype=np.float64)

    def kept(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - kept((n + 1) / total) / kept(n / total), 0.999) for n in range(total)])


def noise_of(mode: str) -> Callable[[int], Tensor]:
    """Timestep from 0 → the noise that the statistics of the same seed take there."""
    draw = Noise(SEED, image_numbers("test", N), SHAPE)
    return lambda timestep: draw(0 if mode == "common" else timestep + 1).float()


LABELS = torch.arange(N) % 3


def measured(denoiser: Denoiser, images: Tensor, path: list[int], mode: str) -> DenoisingError:
    """What the pipeline measures: the clipped x̂_0 in float64, and the first step in float32."""
    settings = {"split": "test", "levels": LEVELS, "seed": SEED, "noise": mode}
    estimator = ClippedDenoisingErrorEstimator(images, LABELS, indices=path[1:], batch_size=N, **settings)
    with torch.no_grad():
        rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
        others = estimator.collect(denoiser.process, rows)
        fitted = others.fitted_error[others.rows([path[1]])]
        first = TanhDecoderEstimator(
            images, LABELS, pairs=[(path[1], path[2])], fitted_error=fitted, batch_size=4, **settings
        )
        return replace(others, tanh=first.collect(denoiser.process, [first.measure(denoiser, 0)]))


@pytest.fixture(params=list(PROCESSES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def denoiser(name: str) -> Denoiser:
    return Denoiser(
        NoiseAndFraction(PROCESSES[name]), PROCESSES[name], EpsParameterisation(rescale_timesteps=True)
    )


@pytest.fixture(scope="module")
def images() -> Tensor:
    near = KNOWN + SPREAD * Noise(1, range(N), SHAPE)(0).float()
    return ((near.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


@pytest.mark.parametrize("mode", ["common", "fresh"])
@pytest.mark.parametrize("spacing", list(PATHS))
def test_the_same_figures(denoiser: Denoiser, name: str, images: Tensor, spacing: str, mode: str) -> None:
    """Image by image to 1e-5 bits/dim, on the same images, noises and schedule."""
    path = PATHS[spacing](T[name])
    statistics = {KIND: measured(denoiser, images, path, mode)}
    schedule, retained = Schedule.on_grid(path, denoiser.process), [index - 1 for index in path[1:]]
    for kind in KINDS:
        nats = ElboObjective(kind, "improved_diffusion_tanh").image_values(statistics, schedule)
        with torch.no_grad():
            theirs = ImageNll(published_betas(name), retained, denoiser.backbone, kind)
            expected = theirs.bits_per_dim(images, noise_of(mode), LABELS)
        ours = nats.float() / (math.prod(SHAPE) * math.log(2))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
