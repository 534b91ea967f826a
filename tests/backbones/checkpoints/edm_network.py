"""What the descriptions of EDM's two networks share: layers read from the state dict, in float64."""

import torch.nn.functional as F
from torch import Tensor


class EdmNetwork:
    """Layers by name.

    Attributes:
        state: name → tensor.
        epsilon: what normalisation adds to the variance.
    """

    epsilon: float

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def conv(self, name: str, h: Tensor, around: int | None = None) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv2d(h, weight, bias, padding=weight.shape[-1] // 2 if around is None else around)

    def linear(self, name: str, h: Tensor) -> Tensor:
        return h @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def normalise(self, name: str, h: Tensor) -> Tensor:
        """In groups of at least four channels, and at most 32 groups."""
        b, c, *size = h.shape
        groups = h.reshape(b, min(32, c // 4), -1)
        spread = (groups.var(2, unbiased=False, keepdim=True) + self.epsilon).sqrt()
        gain, bias = (self.state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return ((groups - groups.mean(2, keepdim=True)) / spread).reshape(b, c, *size) * gain + bias
