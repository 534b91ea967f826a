"""A small classifier whose features judge samples where no published network fits, such as 8×8 digits."""

from typing import Any

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Two stages of 3×3 convolutions, then a feature layer, then classes.

    Args:
        in_channels: channels of the images.
        image_size: height and width; divisible by 4.
        num_classes: number of classes.
        width: channels of the first stage.
        num_features: d, the number of features.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, num_classes: int, width: int = 32, num_features: int = 64
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "image_size": image_size,
            "num_classes": num_classes,
            "width": width,
            "num_features": num_features,
        }
        self.num_features = num_features
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(2 * width * (image_size // 4) ** 2, num_features),
            nn.ReLU(),
        )
        self.head = nn.Linear(num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Features [B, d] of images [B, C, H, W] in [-1, 1]."""
        features: Tensor = self.body(images.to(torch.float32))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes]."""
        logits: Tensor = self.head(self.features(images))
        return logits
