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
