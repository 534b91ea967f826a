"""The tensors of EDM's networks in the layout of their pickles (Karras et al. 2022), from their arguments."""

from typing import Any


class Shapes(dict[str, tuple[int, ...]]):
    """Name → shape, gathered layer by layer.

    Args:
        embedding: channels of the time's embedding.
        affine: numbers per channel that a block takes from it.
        taps: of the filter that resamples, along an axis.
        projects: whether a block that resamples has a convolution beside it even where channels stay as they are.
    """

    def __init__(self, embedding: int, affine: int, taps: int, projects: bool) -> None:
        super().__init__()
        self.embedding, self.affine, self.taps, self.projects = embedding, affine, taps, projects

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = shape
        if bias:
            self[f"{name}.bias"] = shape[:1]

    def block(self, name: str, c: int, out: int, attends: bool = False, resampled: bool = False) -> None:
        self.layer(f"{name}.norm0", c)
        self.layer(f"{name}.conv0", out, c, 3, 3)
        self.layer(f"{name}.affine", self.affine * out, self.embedding)
        self.layer(f"{name}.norm1", out)
        self.layer(f"{name}.conv1", out, out, 3, 3)
        if c != out or (resampled and self.projects):
            self.layer(f"{name}.skip", out, c, 1, 1)
        if resampled:
            for part in ("conv0", "skip"):
                self[f"{name}.{part}.resample_filter"] = (1, 1, self.taps, self.taps)
        if attends:
            self.layer(f"{name}.norm2", out)
            self.layer(f"{name}.qkv", 3 * out, out, 1, 1)
            self.layer(f"{name}.proj", out, out, 1, 1)


def adm_shapes(arguments: dict[str, Any]) -> Shapes:
    """Of the network with the arguments of `DhariwalUNet`."""
    size, width, depth = (arguments[key] for key in ("img_resolution", "model_channels", "num_blocks"))
    attention, embedding = arguments["attn_resolutions"], 4 * width
    shapes = Shapes(embedding, affine=2, taps=2, projects=False)
    layer, block = shapes.layer, shapes.block
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
