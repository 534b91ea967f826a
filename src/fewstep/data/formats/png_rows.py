"""Whether a PNG holds all of its rows: Pillow takes one whose data end early, and leaves the rest black.

Written from the PNG specification (ISO/IEC 15948): clause 5 for chunks, 7 for rows and their filter bytes, 8 for
interlacing.
"""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type → samples per pixel
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 1 << 20  # bytes that are unpacked at a time


def lacks_rows(content: bytes) -> bool:
    """Whether these bytes are a PNG whose data unpack to less than its header promises; False for other files."""
    if not content.startswith(_SIGNATURE):
        return False
    header, data = _chunks(content)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * _CHANNELS[colour]
    sizes = _passes(width, height) if interlaced else [(width, height)]
    left = sum(_bytes(columns, rows, bits) for columns, rows in sizes)
    unpacker = zlib.decompressobj()
    while left > 0 and not unpacker.eof:
        unpacked = unpacker.decompress(data, min(left, _BLOCK))
        if not unpacked and not unpacker.unconsumed_tail:
            break
        data, left = unpacker.unconsumed_tail, left - len(unpacked)
    return left > 0


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    """The header's bytes, and the compressed data of all IDAT chunks."""
    header, data, place = b"", [], len(_SIGNATURE)
    while place + 8 <= len(content):
        (length,), kind = struct.unpack_from(">I", content, place), content[place + 4 : place + 8]
        body = content[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            data.append(body)
        elif kind == b"IEND":
            break
        place += 12 + length
    return header, b"".join(data)


def _passes(width: int, height: int) -> list[tuple[int, int]]:
    """Width and height of the seven interlaced pictures."""
    return [(max(0, -(-(width - x) // across)), max(0, -(-(height - y) // down))) for x, y, across, down in _ADAM7]


def _bytes(width: int, height: int, bits: int) -> int:
    """The bytes of a picture's rows, each behind a filter byte; none where a row has no pixels."""
    return height * (1 + -(-width * bits // 8)) if width else 0
