"""Which images are which split's, drawn once and for all."""

import numpy as np
import torch
from torch import Tensor

from fewstep.data.cache import Cache, Split
from fewstep.errors import UserError


def fixed_order(n: int) -> Tensor:
    """A permutation of 0 … n − 1, int64 [n], the same on every machine and with every version.

    It sorts Philox's raw words for key 0, which are specified (Salmon et al. 2011), unlike the shuffles of
    libraries.
    """
    return torch.from_numpy(np.argsort(np.random.Philox(key=0).random_raw(n), kind="stable"))


def official_splits(cache: Cache, validation: int, name: str) -> dict[str, Split]:
    """Splits of a set with an official training and test set, `train` and `test` in the cache.

    The first `validation` images of the training set in `fixed_order` are held out of it; test is the whole test
    set. Every split is in `fixed_order`, so that its first n images are a fair sample of it.

    Raises:
        UserError: not at least one image stays for each of training and validation.
    """
    train, test = (fixed_order(len(cache.split(part).images)) for part in ("train", "test"))
    if not 0 < validation < len(train):
        raise UserError(
            f"dataset.validation is {validation}, but of {name}'s {len(train)} training images at least one must "
            "be held out and at least one must stay."
        )
    rows = {
        "train": ("train", train[validation:]),
        "validation": ("train", train[:validation]),
        "test": ("test", test),
    }
    return {split: cache.split(part, chosen) for split, (part, chosen) in rows.items()}


def labels_of(split: Split, name: str) -> Tensor:
    """A split's labels, int64 [N].

    Raises:
        UserError: it has none.
    """
    if split.labels is None:
        raise UserError(f"The images of {name} have no classes here; what needs labels cannot be used on them.")
    return split.labels
