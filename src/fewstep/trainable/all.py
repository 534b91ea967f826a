"""All weights."""

from torch import nn


class AllWeights:
    """`all`: every weight of the network is trained."""

    name = "all"

    def prepare(self, network: nn.Module) -> None:
        """Let every weight be trained, in place."""
        network.requires_grad_(True)
