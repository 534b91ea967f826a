"""Moments from sums: those of all features at once, whatever the batches."""

import numpy as np
import pytest
import torch

from fewstep.errors import UserError
from fewstep.metrics.moments import FeatureSums


def test_sums_give_mean_and_covariance() -> None:
    features = torch.randn(70, 5, generator=torch.Generator().manual_seed(0)) + 3
    sums = FeatureSums(5)
    for part in torch.arange(70).split(16):
        sums.update(features[part], part)
    moments = sums.moments()
    assert moments.n == 70
    assert np.allclose(moments.mean, features.double().mean(0), rtol=1e-12)
    assert np.allclose(moments.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-10)


def test_one_image_has_no_covariance() -> None:
    sums = FeatureSums(2)
    sums.update(torch.ones(1, 2), torch.zeros(1))
    with pytest.raises(UserError, match="at least two images; there are 1"):
        sums.moments()
