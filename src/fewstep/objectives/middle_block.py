"""What a denoiser's own middle block makes of images: features of no other network, and of no judge's."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError

NAMES = ("middle_block", "mid_block")  # what OpenAI's UNets and diffusers' call it


def middle_block(denoiser: Denoiser) -> nn.Module:
    """The block between a UNet's ways down and up.

    Raises:
        UserError: the backbone has none by these names.
    """
    for name, module in _modules(denoiser.backbone):
        if name.rpartition(".")[2] in NAMES:
            return module
    backbone = type(denoiser.backbone).__name__
    raise UserError(
        f"The space denoiser_features is of a UNet's middle block, and the backbone {backbone} has no module "
        f"called {' or '.join(NAMES)}; take space=pixels."
    )


def middle_features(
    denoiser: Denoiser, images: Tensor, noise: Tensor, noise_level: float, label: Tensor | None = None
) -> Tensor:
    """The middle block's activations for noised images [B, C, H, W], float64 [B, features]; one network call each.

    Diffusion models' middle activations at small noise tell what is in an image (Baranchuk et al. 2022).

    Args:
        denoiser: the model.
        images: x_0, in [-1, 1] or slightly beyond.
        noise: ε, as many; the same for images that are to be compared.
        noise_level: σ/α; the timestep of the grid that is nearest to it is taken.
        label: int64 [B] where the model is class-conditional.
    """
    process, kept = denoiser.process, []
    levels = process.noise_level(process.grid[1:]).log()
    t = process.grid[1 + int((levels - torch.tensor(noise_level).log()).abs().argmin())]
    hook = middle_block(denoiser).register_forward_hook(lambda _module, _given, made: kept.append(made))
    try:
        denoiser(process.add_noise(images, t, noise), t, label)
    finally:
        hook.remove()
    if not kept:
        raise UserError(
            "The network's middle block was never run, as in a compiled network; set model.compile=null."
        )
    features: Tensor = kept[0].flatten(1).double()
    return features


def _modules(backbone: object) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(backbone, nn.Module):
        yield from backbone.named_modules()
