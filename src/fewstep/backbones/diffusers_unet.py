"""diffusers' UNet2DModel as a backbone; `pip install 'fewstep[diffusers]'`."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from fewstep.errors import UserError


def diffusers_library() -> ModuleType:
    """The module diffusers, imported when it is first needed.

    Raises:
        UserError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UserError(
            f"Models of diffusers need the library diffusers (pip install 'fewstep[diffusers]'): {error}."
        ) from None
    library: ModuleType = diffusers
    return library


class DiffusersUNet(nn.Module):
    """A UNet2DModel, called as network(x, timestep) or, where it has classes, network(x, timestep, label).

    Args:
        image_size: H = W of its images, UNet2DModel's `sample_size`.
        in_channels: channels of its images.
        out_channels: as many, or twice as many with a learned variance.
        settings: UNet2DModel's other arguments.

    Attributes:
        config: the arguments above.
        num_classes: how many labels it was trained with, or None.

    Raises:
        UserError: an argument that UNet2DModel does not have or that this class cannot drive.
    """

    def __init__(self, image_size: int, in_channels: int, out_channels: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        unet_class = diffusers_library().UNet2DModel
        sizes = {"sample_size": image_size, "in_channels": in_channels, "out_channels": out_channels}
        _check_settings(settings, set(inspect.signature(unet_class.__init__).parameters) - {"self"} - sizes.keys())
        if out_channels not in (in_channels, 2 * in_channels):
            raise UserError(
                f"A UNet2DModel with out_channels={out_channels} for in_channels={in_channels} predicts neither "
                f"an image nor an image and its variance; allowed are {in_channels} and {2 * in_channels}."
            )
        self.config: dict[str, Any] = {
            "image_size": image_size,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "settings": dict(settings),
        }
        self.num_classes: int | None = settings.get("num_class_embeds")
        self.unet: nn.Module = unet_class(**sizes, **settings)

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """[B, out_channels, H, W] for x [B, C, H, W], timesteps [B], fractions allowed, and labels int64 [B].

        Raises:
            UserError: images of another shape, or labels given to a network without classes or kept from one with.
        """
        size = self.config["image_size"]
        if x.shape[1:] != (self.config["in_channels"], size, size):
            raise UserError(
                f"This UNet2DModel takes images of {self.config['in_channels']}×{size}×{size}; given were "
                f"{'×'.join(map(str, x.shape[1:]))}."
            )
        if (label is None) != (self.num_classes is None):
            have = "no classes" if self.num_classes is None else f"{self.num_classes} classes"
            raise UserError(
                f"This UNet2DModel has {have}, but labels were{' not' if label is None else ''} given."
            )
        # A tensor: UNet2DModel truncates a Python float to a whole number.
        output: Tensor = self.unet(x, timestep, class_labels=label).sample
        return output


def _check_settings(settings: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise UserError(f"UNet2DModel has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    embedding = settings.get("time_embedding_type", "positional")
    if embedding != "positional":
        raise UserError(
            f"A UNet2DModel with time_embedding_type={embedding!r} is not conditioned on timesteps of a discrete "
            "process; allowed is 'positional'."
        )
    if settings.get("class_embed_type") is not None:
        raise UserError(
            f"A UNet2DModel with class_embed_type={settings['class_embed_type']!r} takes no class numbers; "
            "allowed is null, with num_class_embeds."
        )
