"""The last layers."""

from collections.abc import Sequence

from torch import nn

from fewstep.errors import UserError

ENTRIES = ".*"


class LastLayers:
    """`last_layers`: the `count` layers nearest the output are trained, all others are frozen.

    Args:
        count: layers that are trained.
        layers: dotted names of the network's modules from the output backwards; `name.*` stands for the entries
            of the list `name`, the last first.
    """

    name = "last_layers"

    def __init__(self, count: int, layers: Sequence[str]) -> None:
        if count < 1:
            raise UserError(f"The count of last layers to train is {count}, but must be at least 1.")
        self.count, self.layers = count, list(layers)

    def prepare(self, network: nn.Module) -> None:
        """Freeze all but the last layers, in place.

        Raises:
            UserError: a name is not of the network, there are fewer layers than `count`, or they have no weights.
        """
        found = [layer for pattern in self.layers for layer in _matching(network, pattern)]
        if self.count > len(found):
            raise UserError(
                f"The last {self.count} layers cannot be trained: the names {', '.join(self.layers)} stand for "
                f"{len(found)} layers of this network."
            )
        network.requires_grad_(False)
        for layer in found[: self.count]:
            layer.requires_grad_(True)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UserError(
                f"The last {self.count} of the layers {', '.join(self.layers)} have no weights to train."
            )


def _matching(network: nn.Module, pattern: str) -> list[nn.Module]:
    """The modules that a name stands for, from the output backwards."""
    modules = dict(network.named_modules())
    name = pattern.removesuffix(ENTRIES)
    if name not in modules or not name:
        allowed = ", ".join(child for child, _ in network.named_children())
        raise UserError(f"This network has no layer {name!r}; it consists of {allowed}.")
    return list(modules[name].children())[::-1] if pattern.endswith(ENTRIES) else [modules[name]]
