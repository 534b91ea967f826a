"""Which images are which split's, drawn once and for all."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewstep.data.cache import Cache, Split
from fewstep.data.mapped import MappedImages
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


class FilesInSplits(ABC):
    """A dataset of the user's files: its splits are read when they are first asked for.

    Attributes:
        name: as `Dataset` has it.
    """

    name: str

    def images(self, split: str) -> MappedImages:
        """Float32 [N, C, H, W] in [-1, 1]."""
        return self._splits[split].images

    def labels(self, split: str) -> Tensor:
        """Int64 [N], the classes that the dataset's own description numbers.

        Raises:
            UserError: the images have none.
        """
        labels = self._splits[split].labels
        if labels is None:
            raise UserError(
                f"The images of {self.name} have no classes here; what needs labels cannot be used on them."
            )
        return labels

    @cached_property
    def _splits(self) -> dict[str, Split]:
        return self.read()

    @abstractmethod
    def read(self) -> dict[str, Split]:
        """The splits by name, from the cache that the files are unpacked into the first time.

        Raises:
            UserError: the files are missing, damaged or not what the settings say.
        """
