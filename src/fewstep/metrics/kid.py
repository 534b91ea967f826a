"""The kernel distance of Bińkowski et al. 2018 (arXiv 1801.01401), KID on Inception features."""

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torchmetrics.image.kid import poly_mmd

from fewstep.metrics.kept_features import KeptFeatures, Measured

SUBSET = 1000  # images, as published
FEWEST = 10  # subsets, of fewer images where there are not enough


class KernelDistance(KeptFeatures):
    """`kid`: the unbiased estimate of MMD² with the kernel (x·y/d + 1)³, the mean over subsets.

    Subsets share no image, so that their spread gives an honest standard error, the reference's part included;
    subset i of g takes the images i, i + g, i + 2g, …, which needs no seed. The estimate is unbiased for any size
    of subset.
    """

    name = "kid"
    fewest = 2 * FEWEST
    measures = MappingProxyType(
        {
            "kid": "Kernel distance: the unbiased MMD² with the kernel (x·y/d + 1)³, a mean over subsets that "
            "share no image. Lower is better; that of equal distributions is negative half of the time."
        }
    )

    def compute(self) -> Mapping[str, Measured]:
        """`kid`."""
        judged, reference = self.judged().double(), self.reference.to(self.features.device).double()
        n = min(len(judged), len(reference))
        subsets = max(FEWEST, n // SUBSET)
        size = min(n // subsets, SUBSET)
        values = torch.stack(
            [poly_mmd(reference[i::subsets][:size], judged[i::subsets][:size]) for i in range(subsets)]
        )
        return {"kid": Measured(values.mean().item(), values.std().item() / math.sqrt(subsets))}
