"""scikit-learn's digits: 1,797 real 8×8 scans with 17 grey levels, shipped with the package."""

from functools import cached_property

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

N_TEST = 360
N_VALIDATION = 180
SPLIT_SEED = 0


class Digits:
    """1,257 training, 180 validation and 360 test images, split once and for all, stratified by class.

    The order within a split is random, so that its first n images are a fair sample of it.
    """

    name = "digits"
    shape = (1, 8, 8)
    levels = 17

    def images(self, split: str) -> Tensor:
        """Float32 [N, 1, 8, 8] in [-1, 1]."""
        return self._splits[split][0]

    def labels(self, split: str) -> Tensor:
        """Int64 [N], the digit."""
        return self._splits[split][1]

    @cached_property
    def _splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        bunch = load_digits()
        images = torch.from_numpy(bunch.images).to(torch.float32)[:, None] / 8 - 1
        labels = torch.from_numpy(bunch.target).to(torch.int64)
        indices = np.arange(len(images))
        rest, test = train_test_split(indices, test_size=N_TEST, stratify=labels, random_state=SPLIT_SEED)
        train, validation = train_test_split(
            rest, test_size=N_VALIDATION, stratify=labels[rest], random_state=SPLIT_SEED
        )
        chosen = {"train": train, "validation": validation, "test": test}
        return {split: (images[rows], labels[rows]) for split, rows in chosen.items()}
