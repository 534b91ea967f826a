"""The tensors of EDM's ADM (Dhariwal & Nichol 2021 in the layout of Karras et al. 2022), from its arguments."""

from typing import Any


def adm_shapes(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name → shape, of a network with the arguments of `DhariwalUNet`."""
    size, width, depth = (arguments[key] for key in ("img_resolution", "model_channels", "num_blocks"))
    attention, embedding = arguments["attn_resolutions"], 4 * width
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def block(name: str, c: int, out: int, attends: bool = False, resampled: bool = False) -> None:
        layer(f"{name}.norm0", c)
        layer(f"{name}.conv0", out, c, 3, 3)
        layer(f"{name}.affine", 2 * out, embedding)
        layer(f"{name}.norm1", out)
        layer(f"{name}.conv1", out, out, 3, 3)
        if c != out:
            layer(f"{name}.skip", out, c, 1, 1)
        if resampled:
            shapes[f"{name}.conv0.resample_filter"] = shapes[f"{name}.skip.resample_filter"] = (1, 1, 2, 2)
        if attends:
            layer(f"{name}.norm2", out)
            layer(f"{name}.qkv", 3 * out, out, 1, 1)
            layer(f"{name}.proj", out, out, 1, 1)

    layer("map_layer0", embedding, width)
    layer("map_layer1", embedding, embedding)
    if arguments["label_dim"]:
        layer("map_label", embedding, arguments["label_dim"], bias=False)
    if arguments.get("augment_dim"):
        layer("map_augment", width, arguments["augment_dim"], bias=False)
    levels = [(size >> level, width * factor) for level, factor in enumerate(arguments["channel_mult"])]
    layer(f"enc.{size}x{size}_conv", width, 3, 3, 3)
    c, skips = width, [width]
    for pixels, out in levels:
        if pixels < size:
            block(f"enc.{pixels}x{pixels}_down", c, c, resampled=True)
            skips.append(c)
        for i in range(depth):
            block(f"enc.{pixels}x{pixels}_block{i}", c, out, attends=pixels in attention)
            c = out
            skips.append(c)
    block(f"dec.{pixels}x{pixels}_in0", c, c, attends=True)
    block(f"dec.{pixels}x{pixels}_in1", c, c)
    for pixels, out in reversed(levels):
        if pixels != levels[-1][0]:
            block(f"dec.{pixels}x{pixels}_up", c, c, resampled=True)
        for i in range(depth + 1):
            block(f"dec.{pixels}x{pixels}_block{i}", c + skips.pop(), out, attends=pixels in attention)
            c = out
    layer("out_norm", c)
    layer("out_conv", 3, c, 3, 3)
    return shapes
