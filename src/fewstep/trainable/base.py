"""What every choice of trained weights offers. A new choice is one file with `prepare`."""

from typing import Protocol

from torch import nn
from torch.nn.utils import parametrize


class Trainable(Protocol):
    """Which weights of a network are trained; the others are frozen.

    Attributes:
        name: the choice's word in configs.
    """

    name: str

    def prepare(self, network: nn.Module) -> None:
        """Freeze, in place, what is not trained; weights may get a parametrisation that holds what is.

        What the network computes stays the same.

        Raises:
            UserError: the network has nothing that would be trained.
        """
        ...


def trained_parameters(network: nn.Module) -> int:
    """The number of scalars that training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def merge(network: nn.Module) -> None:
    """Put every parametrised weight's value in its place, so that only ordinary weights are left, in place."""
    for layer in list(network.modules()):
        parametrised = getattr(layer, "parametrizations", None)
        for name in [*parametrised] if isinstance(parametrised, nn.ModuleDict) else []:
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
