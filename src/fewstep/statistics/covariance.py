"""The data's mean and covariance, and the linear (Wiener) denoiser that follows from them.

The Wiener denoiser is the best linear one; a network whose e(t) is above its error at some t is worse there
than a linear filter, and misleads every objective.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DataCovariance:
    """Mean [D], eigenvalues c_j² [D] and eigenvectors [D, D] (columns) of the covariance, float64."""

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "DataCovariance":
        """The covariance of images [N, C, H, W], divided by N − 1."""
        flat = images.to(torch.float64).flatten(1)
        eigenvalues, eigenvectors = torch.linalg.eigh(torch.cov(flat.T))
        return cls(flat.mean(0), eigenvalues.clamp(min=0), eigenvectors)

    def wiener_error(self, images: Tensor, noise: Tensor, noise_levels: Tensor) -> Tensor:
        """E‖x_0 − x̂_0‖² of the Wiener denoiser on these very images and noises, float64 [M], one per level.

        In the covariance's basis x̂_0 − μ = g (a + σ̄ b), g = c²/(c² + σ̄²), for x_0 − μ = a and noise b; the sums
        of a², ab and b² over images serve every noise level σ̄ = σ/α.

        Args:
            images: [N, C, H, W].
            noise: of the same shape.
            noise_levels: float64 [M].
        """
        a = (images.to(torch.float64).flatten(1) - self.mean) @ self.eigenvectors
        b = noise.to(torch.float64).flatten(1) @ self.eigenvectors
        aa, ab, bb = (a * a).mean(0), (a * b).mean(0), (b * b).mean(0)
        levels = noise_levels[:, None]
        gain = self.eigenvalues / (self.eigenvalues + levels.square())
        kept = gain * levels
        return ((1 - gain).square() * aa - 2 * (1 - gain) * kept * ab + kept.square() * bb).sum(1)
