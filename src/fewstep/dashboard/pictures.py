"""Samples as one picture."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

_COLUMNS = 10
_SMALLEST = 48  # pixels; smaller images are enlarged by a whole factor, so that they stay sharp
_GAP = 2


def grid(images: Tensor) -> npt.NDArray[Any]:
    """[n, C, H, W] in [-1, 1] with C = 1 or 3 → uint8 [H', W'] or [H', W', 3], ten images to a row."""
    n, channels, height, width = images.shape
    factor = math.ceil(_SMALLEST / height)
    cell = (height * factor + _GAP, width * factor + _GAP)
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    picture = np.full((rows * cell[0] - _GAP, columns * cell[1] - _GAP, channels), 255, dtype=np.uint8)
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    for number, image in enumerate(pixels.repeat(factor, axis=1).repeat(factor, axis=2)):
        top, left = number // columns * cell[0], number % columns * cell[1]
        picture[top : top + height * factor, left : left + width * factor] = image
    return picture[..., 0] if channels == 1 else picture
