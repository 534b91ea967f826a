"""The Inception network of published Fréchet distances, in the layout of the weights file that everybody has.

Szegedy et al. 2016 (arXiv 1512.00567), figures 5 to 7 and 10, as in the TensorFlow graph of 2015-12-05, which
Heusel et al. 2017 judge with. It differs from the ImageNet classifier of the same name: averages leave the padding
out, the last block takes a maximum instead of an average, and images are resized as TensorFlow 1 did. The file is
torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`; the layers are named as in it. That package itself is
no dependency: installed without a torchvision that fits torch, it makes `import torchmetrics` fail.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.errors import UserError
from fewstep.weights import check_tensors

SIZE = 299  # pixels on a side, after resizing
CHUNK = 32  # images at once: activations of 0.6 GB on a CPU
COUNTS = "num_batches_tracked"  # of training, which the file leaves out


class Conv(NamedTuple):
    """A convolution of a block: its name, output channels, kernel and stride."""

    name: str
    channels: int
    height: int = 1
    width: int = 1
    stride: int = 1


Branch = Sequence[Conv | tuple[Conv, Conv]]  # in a chain; a pair, at its end, reads the same input and is joined


class ConvBn(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, conv: Conv, padding: tuple[int, int]) -> None:
        super().__init__()
        kernel = (conv.height, conv.width)
        self.conv = nn.Conv2d(in_channels, conv.channels, kernel, conv.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(conv.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H', W']."""
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their channels joined; the last one is a pooling, then `branch_pool` if it has one.

    Args:
        in_channels: channels of its input.
        branches: the convolutions; those of stride 1 keep the image's size, those of stride 2 have no padding.
        pool: the pooling.
        pool_channels: of the 1×1 convolution after it; 0 for none.
    """

    def __init__(
        self, in_channels: int, branches: Sequence[Branch], pool: nn.Module, pool_channels: int = 0
    ) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        self.out_channels = pool_channels or in_channels
        for branch in branches:
            channels = in_channels
            for entry in branch:
                pair = _pair(entry)
                for conv in pair:
                    padding = (conv.height // 2, conv.width // 2) if conv.stride == 1 else (0, 0)
                    setattr(self, conv.name, ConvBn(channels, conv, padding))
                channels = sum(conv.channels for conv in pair)
            self.out_channels += channels
        if pool_channels:
            self.branch_pool = ConvBn(in_channels, Conv("branch_pool", pool_channels), (0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """[B, out_channels, H', W']."""
        outputs = []
        for branch in self.branches:
            out = x
            for entry in branch:
                out = torch.cat([getattr(self, conv.name)(out) for conv in _pair(entry)], 1)
            outputs.append(out)
        pooled = self.pool(x)
        outputs.append(self.branch_pool(pooled) if hasattr(self, "branch_pool") else pooled)
        return torch.cat(outputs, 1)


def _pair(entry: Conv | tuple[Conv, Conv]) -> Sequence[Conv]:
    return (entry,) if isinstance(entry, Conv) else entry


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _35x35(in_channels: int, pool_channels: int) -> Mixed:
    """Figure 5, its first 3×3 a 5×5."""
    five = [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5, 5)]
    double = [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3, 3), Conv("branch3x3dbl_3", 96, 3, 3)]
    return Mixed(in_channels, [[Conv("branch1x1", 64)], five, double], _average(), pool_channels)


def _to_17x17(in_channels: int) -> Mixed:
    """Figure 10."""
    double = [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, 3, 3), Conv("branch3x3dbl_3", 96, 3, 3, 2)]
    return Mixed(in_channels, [[Conv("branch3x3", 384, 3, 3, 2)], double], nn.MaxPool2d(3, stride=2))


def _17x17(in_channels: int, c: int) -> Mixed:
    """Figure 6, n = 7, with c channels inside."""
    seven = [Conv("branch7x7_1", c), Conv("branch7x7_2", c, 1, 7), Conv("branch7x7_3", 192, 7, 1)]
    double = [
        Conv("branch7x7dbl_1", c),
        Conv("branch7x7dbl_2", c, 7, 1),
        Conv("branch7x7dbl_3", c, 1, 7),
        Conv("branch7x7dbl_4", c, 7, 1),
        Conv("branch7x7dbl_5", 192, 1, 7),
    ]
    return Mixed(in_channels, [[Conv("branch1x1", 192)], seven, double], _average(), 192)


def _to_8x8(in_channels: int) -> Mixed:
    three = [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, 3, 2)]
    seven = [
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, 1, 7),
        Conv("branch7x7x3_3", 192, 7, 1),
        Conv("branch7x7x3_4", 192, 3, 3, 2),
    ]
    return Mixed(in_channels, [three, seven], nn.MaxPool2d(3, stride=2))


def _8x8(in_channels: int, pool: nn.Module) -> Mixed:
    """Figure 7."""
    three: Branch = [Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, 1, 3), Conv("branch3x3_2b", 384, 3, 1))]
    double: Branch = [
        Conv("branch3x3dbl_1", 448),
        Conv("branch3x3dbl_2", 384, 3, 3),
        (Conv("branch3x3dbl_3a", 384, 1, 3), Conv("branch3x3dbl_3b", 384, 3, 1)),
    ]
    return Mixed(in_channels, [[Conv("branch1x1", 320)], three, double], pool, 192)


class Inception(nn.Module):
    """RGB images → the 2048 features behind the classes. Made by `load`, in evaluation mode, without gradients.

    Attributes:
        num_features: 2048.
    """

    num_features = 2048

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBn(3, Conv("", 32, 3, 3, 2), (0, 0))
        self.Conv2d_2a_3x3 = ConvBn(32, Conv("", 32, 3, 3), (0, 0))
        self.Conv2d_2b_3x3 = ConvBn(32, Conv("", 64, 3, 3), (1, 1))
        self.MaxPool_1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = ConvBn(64, Conv("", 80), (0, 0))
        self.Conv2d_4a_3x3 = ConvBn(80, Conv("", 192, 3, 3), (0, 0))
        self.MaxPool_2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = _35x35(192, 32)
        self.Mixed_5c = _35x35(256, 64)
        self.Mixed_5d = _35x35(288, 64)
        self.Mixed_6a = _to_17x17(288)
        self.Mixed_6b = _17x17(768, 128)
        self.Mixed_6c = _17x17(768, 160)
        self.Mixed_6d = _17x17(768, 160)
        self.Mixed_6e = _17x17(768, 192)
        self.Mixed_7a = _to_8x8(768)
        self.Mixed_7b = _8x8(1280, _average())
        self.Mixed_7c = _8x8(2048, nn.MaxPool2d(3, stride=1, padding=1))
        self.fc = nn.Linear(2048, 1008)  # not evaluated: a file without it is another network's

    @classmethod
    def load(cls, path: Path) -> "Inception":
        """The network with the weights of a file, on the CPU.

        Raises:
            UserError: the file cannot be read, or a tensor is missing, extra, misshaped or not finite.
        """
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the readers of zip files and pickles raise whatever a damaged byte leads to
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise UserError(f"The Inception weights {path} cannot be read ({reason}).") from None
        if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise UserError(f"The Inception weights {path} are not a dictionary of names and tensors.")
        with torch.device("meta"):  # no random numbers are drawn for weights that are replaced
            network = cls()
        tensors = {str(name): tensor for name, tensor in tensors.items() if not str(name).endswith(COUNTS)}
        expected = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTS)}
        check_tensors(path, tensors, expected)
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        return network.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """Features float32 [B, 2048] of images [B, 3, H, W] in [-1, 1], rounded to the nearest of 256 levels.

        Raises:
            UserError: the trainer's precision has made the network another one than published numbers are of.
        """
        if self.fc.weight.dtype != torch.float32:
            raise UserError(
                f"Inception features are those of float32 weights, but the trainer's precision has made them "
                f"{self.fc.weight.dtype}; set trainer.precision to 32-true or to a mixed one."
            )
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self(chunk) for chunk in to_pixels(images).split(CHUNK)])

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [B, 2048] of pixels [B, 3, H, W], whole numbers from 0 to 255."""
        x = (resized(pixels, SIZE) - 128) / 128
        x = self.MaxPool_1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.MaxPool_2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def to_pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as whole numbers from 0 to 255, float32: rounded, where a cast to uint8 would truncate."""
    return ((images.double().clamp(-1, 1) + 1) * 127.5).round().float()


def resized(images: Tensor, size: int) -> Tensor:
    """Images [B, C, H, W] as [B, C, size, size] by TensorFlow 1's bilinear rule.

    Output pixel i reads between the input pixels about i H / size: the corner, not the centre, of a pixel is where
    it is, and there is no smoothing where the image shrinks. Positions are float32, as they were there.
    """
    for axis in (3, 2):
        n = images.shape[axis]
        scale = torch.tensor(n / size, dtype=torch.float32, device=images.device)
        position = torch.arange(size, dtype=torch.float32, device=images.device) * scale
        low = position.long()
        weight = (position - low).reshape(-1, *[1] * (3 - axis))
        before = images.index_select(axis, low)
        after = images.index_select(axis, (low + 1).clamp(max=n - 1))
        images = before + (after - before) * weight
    return images
