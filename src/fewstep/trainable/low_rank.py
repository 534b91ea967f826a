"""Low-rank adapters."""

import math

from torch import Tensor, nn
from torch.nn.utils import parametrize

from fewstep.errors import UserError

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRankUpdate(nn.Module):
    """W ↦ W + (alpha/r) B A of a weight [out, in, …], read as a matrix of `out` rows (Hu et al. 2021, eq. 3).

    A [r, in · …] starts at random as a layer's weight does and B [out, r] at zero, and so does the update.

    Args:
        weight: the weight; its shape, dtype and device are taken.
        rank: r, at most; a matrix with fewer rows or columns takes their number.
        alpha: the scale of the update is alpha/r.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        rank = min(rank, rows, columns)
        self.scale = alpha / rank
        self.A = nn.Parameter(weight.new_empty(rank, columns))
        self.B = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        return weight + (self.scale * (self.B @ self.A)).view_as(weight)


class LowRank:
    """`low_rank`: a low-rank update of every linear layer and convolution is trained, all weights are frozen.

    LoRA, Hu et al. 2021 (arXiv 2106.09685). The update is a parametrisation of the weight, so that the network's
    own code is unchanged, and is merged into the weight when the model is written.

    Args:
        rank: r of every update; a layer that allows less, min(out, in · kernel), takes what it allows.
        alpha: the update is alpha/r · B A.
    """

    name = "low_rank"

    def __init__(self, rank: int, alpha: float) -> None:
        if rank < 1:
            raise UserError(f"The rank of a low-rank update is {rank}, but must be at least 1.")
        if not 0 < alpha < math.inf:
            raise UserError(f"The alpha of a low-rank update is {alpha}, but must be positive and finite.")
        self.rank, self.alpha = rank, alpha

    def prepare(self, network: nn.Module) -> None:
        """Freeze the weights and put an update on those of linear layers and convolutions, in place.

        Raises:
            UserError: the network has none of these.
        """
        layers = [layer for layer in network.modules() if isinstance(layer, ADAPTED)]
        if not layers:
            raise UserError("This network has no linear layer and no convolution to put low-rank updates on.")
        network.requires_grad_(False)
        for layer in layers:
            update = LowRankUpdate(layer.weight.detach(), self.rank, self.alpha)
            parametrize.register_parametrization(layer, "weight", update)
