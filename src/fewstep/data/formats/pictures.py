"""One picture's file → uint8 RGB pixels."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fewstep.data.formats.png_rows import lacks_rows
from fewstep.data.formats.reading import readable
from fewstep.errors import UserError

KIND = "a PNG, JPEG, WebP or BMP picture"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LARGEST_FILE = 128 << 20  # bytes
MOST_PIXELS = 1 << 26  # 67 megapixels
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others of Pillow's call further programmes, or hold many pictures
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # of 8 bits per channel


def pixels(content: bytes, size: int, where: str) -> NDArray[np.uint8]:
    """A picture that is `size` × `size` already: uint8 [3, size, size].

    Raises:
        UserError: it is no such picture; the sentence names it by `where`.
    """
    picture = _decoded(content, where)
    if picture.size != (size, size):
        width, height = picture.size
        raise UserError(f"{where} has {width} × {height} pixels, not {size} × {size}.")
    return _channels_first(picture)


def center_cropped(content: bytes, size: int, where: str) -> NDArray[np.uint8]:
    """The middle of a picture: the largest square in its centre, resized by Lanczos' filter; uint8 [3, size,
    size].

    This is `center-crop` of EDM's dataset tool. A picture of `size` × `size` is left as it is.

    Raises:
        UserError: it is no picture; the sentence names it by `where`.
    """
    picture = _decoded(content, where)
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return _channels_first(square)


def _decoded(content: bytes, where: str) -> Image.Image:
    """RGB; transparency is dropped."""
    if not content:
        raise UserError(f"{where} is empty (0 bytes).")
    with readable(where, KIND), _opened(content, where) as picture:
        width, height = picture.size  # from the header: nothing is unpacked yet
        if width * height > MOST_PIXELS:
            raise UserError(f"{where} claims {width} × {height} pixels; at most {MOST_PIXELS:,} are read.")
        if picture.mode not in _MODES:
            raise UserError(
                f"{where} has pixels of the kind {picture.mode}; allowed are those of 8 bits per channel."
            )
        if lacks_rows(content):
            raise UserError(f"{where} is cut short: it holds fewer rows than the {height} that it claims.")
        return picture.convert("RGB")


def _opened(content: bytes, where: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise UserError(f"{where} is not {KIND}.") from None


def _channels_first(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture, np.uint8).transpose(2, 0, 1)
