"""Ways of spoiling a file: its bytes, its text, and the tree of values that it holds."""

import copy
import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

DEPTH = 5000  # beyond what recursive parsers bear
WEIRD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    2**31,
    2**63,
    10**9,
    10**30,
    -(10**30),
    0.5,
    -0.0,
    1e-320,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "0",
    "nan",
    "linear",
    "\x00",
    "\ud800",
    "ü" * 40,
    "a" * 100_000,
    [],
    {},
    [[]],
    {"": None},
    [0.0, 1.0],
    [1, "a", None],
    list(range(2000)),
)


def mutated_bytes(content: bytes, draw: random.Random) -> bytes:
    """One to three faults of bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        content = draw.choice(BYTE_FAULTS)(content, draw)
    return content


def mutated_tree(tree: Any, draw: random.Random) -> Any:
    """One to three faults of values, keys or structure in a copy of nested plain data."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return draw.choice(WEIRD)
        parent, key = draw.choice(places)
        _spoil(parent, key, draw)
    return tree if draw.random() < 0.97 else draw.choice(WEIRD)


def as_json(tree: Any, draw: random.Random) -> bytes:
    """JSON text, sometimes with a key twice, a value nested very deep, or in another encoding."""
    text = json.dumps(tree, allow_nan=True, ensure_ascii=draw.random() < 0.8, indent=draw.choice((None, 2)))
    fault = draw.random()
    if fault < 0.04:
        text = text.replace(":", ": " + "[" * DEPTH + "]" * DEPTH + ', "again":', 1)
    elif fault < 0.08:
        text = "{" + text[1:-1] + ", " + text[1:-1] + "}"
    elif fault < 0.12:
        return text.encode(draw.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1")), "replace")
    return text.encode("utf-8", "surrogatepass")


def mutated_safetensors(content: bytes, draw: random.Random) -> bytes:
    """A safetensors file with faults in its header's tree, its header's length, or its data."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    fault = draw.random()
    if fault < 0.3:
        data = mutated_bytes(data, draw)
    elif fault < 0.5 and "fewstep" in header.get("__metadata__", {}):
        facts = mutated_tree(json.loads(header["__metadata__"]["fewstep"]), draw)
        header["__metadata__"]["fewstep"] = as_json(facts, draw).decode("utf-8", "replace")
    elif fault < 0.6:
        name = draw.choice([name for name in header if name != "__metadata__"])
        header[name]["dtype"] = draw.choice(("F32", "F64", "I64", "I8", "U8", "BOOL", "BF16", "F16", "C64", "Q3"))
    elif fault < 0.7:
        name = draw.choice([name for name in header if name != "__metadata__"])
        header[name]["shape"] = draw.choice(([], [0], [-1], [2**62, 4], [1, *header[name]["shape"]], [10**6] * 4))
    else:
        header = mutated_tree(header, draw)
    text = as_json(header, draw)
    written = (
        len(text) if draw.random() < 0.95 else draw.choice((0, 1, 2**63, 2**40, len(text) - 1, len(text) + 1))
    )
    return struct.pack("<Q", written) + text + data


def mutated_yaml(text: str, draw: random.Random) -> bytes:
    """YAML text with faults of its lines or of its grammar."""
    fault = draw.choice(YAML_FAULTS)
    return fault(text, draw).encode("utf-8", "surrogatepass")


def bomb(text: str) -> bytes:
    """Aliases of aliases: ten lines that stand for 10¹⁰ values."""
    levels = ["l0: &l0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    return (text + "\n".join(levels) + "\n").encode()


def _places(tree: Any) -> Any:
    """Every (container, key) below the root."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in list(pairs):
        yield tree, key
        yield from _places(child)


def _spoil(parent: Any, key: Any, draw: random.Random) -> None:
    fault = draw.random()
    value = parent[key]
    if fault < 0.15:
        del parent[key]
    elif fault < 0.25 and isinstance(parent, dict):
        parent[f"{key}{draw.choice(('', ' ', 's', '_'))}"] = copy.deepcopy(value)
        if draw.random() < 0.5:
            del parent[key]
    elif fault < 0.25:
        parent.insert(key, copy.deepcopy(value))
    elif fault < 0.35:
        other = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[other] = parent[other], value
    elif fault < 0.5 and isinstance(value, int | float) and not isinstance(value, bool):
        parent[key] = draw.choice((-value, value + 1, value * 1.0000001, value * 1000, str(value), [value]))
    elif fault < 0.55 and isinstance(value, str):
        parent[key] = mutated_bytes(value.encode("utf-8", "surrogatepass"), draw).decode(
            "utf-8", "surrogateescape"
        )
    else:
        parent[key] = copy.deepcopy(draw.choice(WEIRD))


def _span(content: bytes, draw: random.Random) -> slice:
    first = draw.randrange(len(content) + 1)
    return slice(first, first + draw.choice((1, 1, 2, 8, 64, 4096)))


def _flip(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return content
    spoilt = bytearray(content)
    for _ in range(draw.choice((1, 1, 4, 32))):
        spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
    return bytes(spoilt)


def _truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.randbytes(draw.choice((1, 1, 2, 8, 64))) + content[at:]


def _delete(content: bytes, draw: random.Random) -> bytes:
    span = _span(content, draw)
    return content[: span.start] + content[span.stop :]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    span = _span(content, draw)
    return content[: span.stop] + content[span] * draw.choice((1, 2, 50)) + content[span.stop :]


def _blank(content: bytes, draw: random.Random) -> bytes:
    span = _span(content, draw)
    return content[: span.start] + draw.choice((b"\0", b" ", b"\xff")) * len(content[span]) + content[span.stop :]


def _junk(content: bytes, draw: random.Random) -> bytes:
    return draw.choice((b"", b"\0", b"\n", b"{}", b"[]", b"null", b"\xff\xfe", draw.randbytes(300), content * 2))


BYTE_FAULTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _truncate,
    _insert,
    _delete,
    _repeat,
    _blank,
    _junk,
)


def _lines_faulted(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    at = draw.randrange(len(lines))
    fault = draw.choice(("delete", "repeat", "indent", "swap"))
    if fault == "delete":
        del lines[at]
    elif fault == "repeat":
        lines.insert(draw.randrange(len(lines)), lines[at])
    elif fault == "indent":
        lines[at] = draw.choice(("  ", "\t", " ", "- ")) + lines[at]
    else:
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines) + "\n"


def _value_faulted(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    at = draw.randrange(len(lines))
    lines[at] = lines[at].partition(":")[0] + ": " + draw.choice(YAML_VALUES)
    return "\n".join(lines) + "\n"


YAML_VALUES = (
    "2001-01-01",
    "1:30:00",
    "0x1F",
    "1e3",
    "1_000",
    ".nan",
    "-.inf",
    "~",
    "yes",
    "!!python/object/apply:os.getcwd []",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!int seven",
    "&a [*a]",
    "&a {k: *a}",
    "*unknown",
    "{<<: {a: 1}}",
    "{<<: 3}",
    "{[1, 2]: 3}",
    "{{}: 3}",
    "{1: 2, 1: 3}",
    "{null: 1}",
    "[",
    "'",
    "|",
    "%",
    "@",
    "[" * DEPTH + "]" * DEPTH,
    "{a: " * 900 + "1" + "}" * 900,
    "9" * 5000,
    "1e999",
    "&l0 [a, a, a, a, a, a, a, a, a, a]",
)


YAML_FAULTS: tuple[Callable[[str, random.Random], str], ...] = (
    _lines_faulted,
    _lines_faulted,
    _lines_faulted,
    _value_faulted,
    _value_faulted,
    _value_faulted,
    _value_faulted,
    _value_faulted,
)
