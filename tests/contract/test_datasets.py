"""Every dataset: its splits, and what it says of files that are not there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fewstep import UserError
from fewstep.__main__ import build
from fewstep.config import Config
from fewstep.data.base import SPLITS, checked_images


def test_every_dataset_has_three_splits_in_a_fixed_order(
    own_dataset_name: str, composed: Callable[..., Config]
) -> None:
    node = composed(f"dataset={own_dataset_name}").dataset
    dataset, again = build(node), build(node)
    for split in SPLITS:
        images, labels = checked_images(dataset, split), dataset.labels(split)
        assert labels.shape == (len(images),)
        assert labels.dtype == torch.int64
        assert torch.equal(images, again.images(split))
        # A fair sample comes first: classes are mixed from the beginning.
        assert len(labels[: len(labels) // 4].unique()) == len(labels.unique())


def test_a_dataset_whose_path_is_not_there_says_so(
    dataset_name: str, composed: Callable[..., Config], tmp_path: Any
) -> None:
    node = composed(f"dataset={dataset_name}").dataset
    if "path" not in node:
        pytest.skip("it needs no files")
    dataset = build({**node, "path": str(tmp_path / "nowhere")})
    for split in SPLITS:
        with pytest.raises(UserError, match="nowhere"):
            dataset.images(split)
    assert list(tmp_path.iterdir()) == []
