"""The Fréchet distance against its closed form in SciPy, torchmetrics, and its own spread."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments, FrechetDistance, frechet_distance


def features(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated features with a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(seed % 2), dtype=torch.float64) / d**0.5
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing.T + shift


def by_scipy(a: Tensor, b: Tensor) -> float:
    """Heusel et al. 2017, eq. 6, with a matrix square root."""
    covariances = [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = (a.mean(0) - b.mean(0)).numpy()
    return float(gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root))


def measured(real: Tensor, fake: Tensor, order: Tensor | None = None, batch: int = 64) -> FrechetDistance:
    metric = FrechetDistance(FeatureMoments.of(real))
    indices = torch.arange(len(fake)) if order is None else order
    for part in indices.split(batch):
        metric.update(fake[part], part)
    return metric


@pytest.mark.parametrize(("n", "d"), [(50, 3), (300, 16), (2000, 64)])
def test_the_distance_is_scipys(n: int, d: int) -> None:
    real, fake = features(n, d, 0), features(n + 7, d, 1, shift=0.3)
    expected = by_scipy(real, fake)
    assert frechet_distance(FeatureMoments.of(real), FeatureMoments.of(fake)) == pytest.approx(expected, rel=1e-8)
    assert measured(real, fake).compute()[0] == pytest.approx(expected, rel=1e-8)


def test_the_distance_is_torchmetrics() -> None:
    class Flat(nn.Module):
        num_features = 12

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    real, fake = features(200, 12, 0), features(150, 12, 1, shift=0.2)
    theirs = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    theirs.update(real.reshape(-1, 3, 2, 2), real=True)
    theirs.update(fake.reshape(-1, 3, 2, 2), real=False)
    assert measured(real, fake).compute()[0] == pytest.approx(theirs.compute().item(), rel=1e-8)


def test_gaussians_on_the_axes_have_a_closed_form() -> None:
    """Σ_j (μ_j − ν_j)² + (s_j − r_j)², where one direction may have no spread at all."""
    first, second = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 16.0, 0.25]).double()
    a = FeatureMoments(torch.tensor([1.0, 0.0, 2.0]).double(), first.diag(), 10)
    b = FeatureMoments(torch.tensor([0.0, 2.0, 2.0]).double(), second.diag(), 10)
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 1 + 1 + 0.25, abs=1e-7)
    assert frechet_distance(b, a) == pytest.approx(1 + 4 + 1 + 1 + 0.25, abs=1e-7)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-7)


def test_fewer_images_than_features() -> None:
    real, fake = features(500, 20, 0), features(8, 20, 1)
    assert measured(real, fake).compute()[0] == pytest.approx(by_scipy(real, fake), rel=1e-5)


def test_far_features_do_not_cancel() -> None:
    real, fake = features(300, 4, 0), features(200, 4, 1)
    near, far = measured(real, fake).compute(), measured(real + 1e6, fake + 1e6).compute()
    assert far == pytest.approx(near, rel=1e-5)


def test_order_and_batches_do_not_matter() -> None:
    real, fake = features(100, 5, 0), features(90, 5, 1)
    shuffled = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    expected = measured(real, fake).compute()
    assert measured(real, fake, shuffled, batch=7).compute() == pytest.approx(expected, rel=1e-11)


def test_two_devices_sum_to_one() -> None:
    real, fake = features(100, 5, 0), features(91, 5, 1)
    even, odd = torch.arange(0, 91, 2), torch.arange(1, 91, 2)
    first, second = measured(real, fake, even), measured(real, fake, odd)
    for name in ("count", "total", "products"):
        setattr(first, name, getattr(first, name) + getattr(second, name))
    assert first.compute() == pytest.approx(measured(real, fake).compute(), rel=1e-11)


def test_the_jackknife_is_that_of_ten_blocks() -> None:
    """Recomputed by leaving out every tenth image and measuring the rest from scratch."""
    real, fake = features(100, 3, 0), features(87, 3, 1)
    block = torch.arange(87) % 10
    without = np.array([by_scipy(real, fake[block != left_out]) for left_out in range(10)])
    expected = math.sqrt(0.9 * ((without - without.mean()) ** 2).sum())
    assert measured(real, fake).compute()[1] == pytest.approx(expected, rel=1e-6)


def test_the_standard_error_is_the_spread_of_replicates() -> None:
    real, replicates = features(2000, 3, 0), 150
    values, errors = [], []
    for seed in range(replicates):
        value, error = measured(real, features(200, 3, 2 * seed + 1, shift=0.2), batch=200).compute()
        values.append(value)
        errors.append(error)
    spread = np.std(values, ddof=1)  # known to one part in √(2 · 150), some 6 %
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=0.25)


def test_too_few_images() -> None:
    real, fake = features(100, 3, 0), features(12, 3, 1)
    with pytest.raises(UserError, match="at least two images"):
        measured(real, fake[:1]).compute()
    value, error = measured(real, fake[:2]).compute()
    assert value == pytest.approx(by_scipy(real, fake[:2]), rel=1e-4)
    assert math.isnan(error)
    same_block = FrechetDistance(FeatureMoments.of(real))
    same_block.update(fake[:2], torch.tensor([3, 13]))
    assert math.isnan(same_block.compute()[1])
