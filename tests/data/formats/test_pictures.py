"""Pictures that claim to be huge are refused by their header; kinds that run programmes are not opened."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fewstep.data.formats.pictures import center_cropped, pixels
from fewstep.errors import UserError
from soak.official_files import picture, random_pixels


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes = b"", depth: int = 8) -> bytes:
    """A PNG whose header says anything."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )


def test_pixels_come_back() -> None:
    sound = random_pixels(1, 32, 0)[0]
    assert np.array_equal(pixels(picture(sound), 32, "p"), sound)
    assert np.array_equal(center_cropped(picture(sound), 32, "p"), sound)
    body = b"".join(b"\0" + row.tobytes() for row in sound.transpose(1, 2, 0))
    assert np.array_equal(pixels(png(32, 32, body), 32, "p"), sound)


@pytest.mark.parametrize("size", [(9000, 9000), (12_000, 12_000), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    for read in (pixels, center_cropped):
        with pytest.raises(UserError, match=r"^bomb\.png (claims|cannot be read as a PNG)"):
            read(png(*size), 32, "bomb.png")


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TIFF", "PDF", "PPM", "ICO"])
def test_other_kinds_are_not_opened(kind: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (32, 32)).save(content, kind)
    with pytest.raises(UserError, match="is not a PNG, JPEG, WebP or BMP picture"):
        pixels(content.getvalue(), 32, "p")


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"RIFF\0\0\0\0WEBP", b"text"]
)
def test_what_is_no_picture_is_a_sentence(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^p (is empty|is not a PNG|cannot be read as a PNG)"):
        pixels(content, 32, "p")


def interlaced(side: int, lacking: int) -> bytes:
    """A black grey PNG of Adam7's seven passes, some bytes of the last of which are lacking."""
    starts, steps = ((0, 4, 0, 2, 0, 1, 0), (0, 0, 4, 0, 2, 0, 1)), ((8, 8, 4, 4, 2, 2, 1), (8, 8, 8, 4, 4, 2, 2))
    sizes = [
        (len(range(x, side, across)), len(range(y, side, down)))
        for x, y, across, down in zip(*starts, *steps, strict=True)
    ]
    body = b"".join((b"\0" * (1 + width)) * height for width, height in sizes if width)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 1)
    data = zlib.compress(body[: len(body) - lacking])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [1, 3, 5, 13, 32])
def test_a_picture_with_too_few_rows_is_cut_short(side: int) -> None:
    """Pillow takes such a PNG, and paints what is lacking black."""
    row = b"\0" + b"\x80" * 3 * side
    for lacking in (1, len(row)):
        with pytest.raises(UserError, match=r"^p (is cut short: it holds fewer rows|cannot be read)"):
            pixels(png(side, side, (row * side)[:-lacking]), side, "p")
    assert (pixels(png(side, side, row * side), side, "p") == 0x80).all()
    assert (pixels(png(side, side, row * side + b"more"), side, "p") == 0x80).all()
    with pytest.raises(UserError, match=r"^p (is cut short: it holds fewer rows|cannot be read)"):
        pixels(interlaced(side, 1), side, "p")
    assert (pixels(interlaced(side, 0), side, "p") == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_whole_pictures_of_every_mode_are_read(mode: str) -> None:
    for size in ((1, 1), (3, 7), (13, 5)):
        content = io.BytesIO()
        Image.new(mode, size).save(content, "PNG")
        assert center_cropped(content.getvalue(), 2, "p").shape == (3, 2, 2)
