"""Precision and recall against their definition, image by image, and where both are known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.metrics import precision_recall
from fewstep.metrics.precision_recall import PrecisionRecall


def features(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale


def measured(reference: Tensor, judged: Tensor) -> PrecisionRecall:
    metric = PrecisionRecall(reference, len(judged))
    metric.update(judged, torch.arange(len(judged)))
    return metric


def share(images: np.ndarray, among: np.ndarray) -> float:
    """Kynkäänniemi et al. 2019, eqs. 1 and 2, k = 3."""
    inside = 0
    for image in images:
        for i, centre in enumerate(among):
            others = [np.linalg.norm(centre - other) for j, other in enumerate(among) if j != i]
            if np.linalg.norm(image - centre) <= sorted(others)[2]:
                inside += 1
                break
    return inside / len(images)


@pytest.mark.parametrize("rows", [1024, 7])
def test_the_shares_are_those_of_the_definition(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "ROWS", rows)
    reference, judged = features(40, 2, 0), features(33, 2, 1) + torch.tensor([1.5, 0])
    found = measured(reference, judged).compute()
    for name, images, among in (("precision", judged, reference), ("recall", reference, judged)):
        expected = share(images.double().numpy(), among.double().numpy())
        assert 0 < expected < 1
        value, error = found[name]
        assert value == pytest.approx(expected, rel=1e-12)
        assert error == pytest.approx(math.sqrt(expected * (1 - expected) / len(images)), rel=1e-12)


def test_a_collapsed_model_is_precise_and_recalls_nothing() -> None:
    """Samples in a tiny ball about one real image: all are near it, and no other real image is near them."""
    reference = features(200, 4, 0)
    judged = reference[:1] + features(50, 4, 1, scale=1e-4)
    found = measured(reference, judged).compute()
    assert found["precision"].value == 1
    assert found["recall"].value <= 1 / 200


def test_real_images_as_samples_are_all_of_both() -> None:
    reference = features(30, 4, 0)
    found = measured(reference, reference.clone()).compute()
    assert (found["precision"].value, found["recall"].value) == (1, 1)


def test_too_few_images() -> None:
    with pytest.raises(
        UserError, match="precision_recall needs at least 4 images on either side, but there are 3"
    ):
        PrecisionRecall(features(30, 3, 0), 3)
