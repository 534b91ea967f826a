"""32×32 colour windows of scikit-learn's two photographs: CIFAR-10's shape without a download."""

from functools import cached_property

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from fewstep.data.splits import fixed_order

SIZE = 32
STRIDE = 4
BANDS = (
    ("train", 0, 208),
    ("validation", 208, 256),
    ("test", 256, 320),
    ("train", 320, 528),
    ("validation", 528, 576),
    ("test", 576, 640),
)
"""(split, first column, column after the last) of bands of both photographs, which are 427 rows × 640 columns."""
HALF, THIRDS = 320, 3  # columns of a half, which has a band of every split; parts of the height


class Photos:
    """17,820 training, 1,980 validation and 3,564 test windows, 4 pixels apart; the label is the region.

    A region is a photograph, the left or right half of it, and a third of its height, by the window's middle:
    twelve classes, so that features that tell them apart see more than whether there is a flower.

    A split's windows lie in bands of columns of its own, so that they overlap one another but no other split's.
    The order within a split is random, so that its first n images are a fair sample of it.
    """

    name = "photos"
    shape = (3, SIZE, SIZE)
    levels = 256

    def images(self, split: str) -> Tensor:
        """Float32 [N, 3, 32, 32] in [-1, 1]."""
        return self._splits[split]

    def labels(self, split: str) -> Tensor:
        """Int64 [N], (2 · photograph + half) · 3 + third: the temple (china.jpg) is 0 … 5, the flower 6 … 11."""
        return regions(positions(split))

    @cached_property
    def _splits(self) -> dict[str, Tensor]:
        photographs = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)
        windows = photographs.unfold(2, SIZE, 1).unfold(
            3, SIZE, 1
        )  # a view: photograph, channel, top, left, 32, 32
        splits = {}
        for split in ("train", "validation", "test"):
            photograph, top, left = positions(split).T
            pixels = windows[photograph, :, top, left].contiguous()
            splits[split] = pixels.float().div_(127.5).sub_(1)
        return splits


def positions(split: str, rows: int = 427) -> Tensor:
    """(photograph, top row, left column) of each window of a split, int64 [N, 3], in the order of its images."""
    columns = [
        left for band, first, end in BANDS if band == split for left in range(first, end - SIZE + 1, STRIDE)
    ]
    tops = range(0, rows - SIZE + 1, STRIDE)
    every = torch.cartesian_prod(torch.arange(2), torch.tensor(tops), torch.tensor(columns))
    return every[fixed_order(len(every))]


def regions(where: Tensor, rows: int = 427) -> Tensor:
    """The label, int64 [N], of windows at positions [N, 3]."""
    photograph, top, left = where.T
    middle = SIZE // 2
    half, third = (left + middle) // HALF, (top + middle) * THIRDS // rows
    return (2 * photograph + half) * THIRDS + third
