"""Sizes and inputs that do not fit a UNet are refused in one sentence."""

from typing import Any

import pytest
import torch

from fewstep.backbones.unet import UNet
from fewstep.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "image_size=9"),
        ({"channel_mult": ()}, "at least one level"),
        ({"num_res_blocks": 0}, "num_res_blocks=0"),
        ({"attention_resolutions": (4, 16)}, r"\[4, 16\].*\[8, 4\]"),
        ({"num_heads": 3}, "num_heads=3 does not divide the 16 channels"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"num_head_channels": 4}, "exactly one"),
        ({"num_heads": None}, "exactly one"),
        ({"num_heads": None, "num_head_channels": 5}, "num_head_channels=5 does not divide the 16 channels"),
        ({"num_groups": 3, "model_channels": 16}, "num_groups=3.*16 channels"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"model_channels": 6}, "channels // 4"),
        ({"qkv_order": "diffusers"}, "heads_first, qkv_first, interleaved"),
    ],
)
def test_sizes_that_do_not_fit(change: dict, message: str, narrow: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=message):
        UNet(**{**narrow, **change})


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 2, 4, 4), (2, 2, 8, 4), (2, 8, 8), (2, 2, 16, 16)])
def test_images_of_a_wrong_shape(shape: tuple[int, ...], narrow: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"\[B, 2, 8, 8\]"):
        UNet(**narrow)(torch.zeros(shape), torch.zeros(2))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
def test_timesteps_of_a_wrong_shape(shape: tuple[int, ...], narrow: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="one per image"):
        UNet(**narrow)(torch.zeros(2, 2, 8, 8), torch.zeros(shape))


def test_labels_that_are_missing_or_not_wanted(narrow: dict[str, Any]) -> None:
    x, timesteps = torch.zeros(2, 2, 8, 8), torch.zeros(2)
    label = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(UserError, match="unconditional"):
        UNet(**narrow)(x, timesteps, label)
    conditional = UNet(**narrow, num_classes=5)
    with pytest.raises(UserError, match="no labels"):
        conditional(x, timesteps)
    with pytest.raises(UserError, match="one per image"):
        conditional(x, timesteps, label[:1])
