"""Ways of spoiling a pickle, which is a program: its opcodes, its names, and calls put in between."""

import pickletools
import random

OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]
CALLS = (
    b"cposix\nsystem\n",
    b"cos\nsystem\n(S'true'\ntR0",
    b"c__builtin__\neval\n(S'1'\ntR0",
    b"(S'true'\nios\nsystem\n0",
    b"\x8c\x08builtins\x8c\x04exec\x93",
    b"\x81",
    b"R",
    b"b",
    b"}b",
    b"r\xff\xff\xff\x7f",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"Q",
    b"P1\n",
    b"0",
    b"2",
)
NAMES = (
    b"torch_utils.persistence",
    b"_reconstruct_persistent_obj",
    b"_load_from_bytes",
    b"_rebuild_tensor_v2",
    b"class_name",
    b"state",
    b"EDMPrecond",
    b"_parameters",
    b"_modules",
    b"_init_kwargs",
    b"sigma_data",
    b"ema",
)


def mutated_pickle(content: bytes, draw: random.Random) -> bytes:
    """A pickle with faults of its program: other opcodes, other names of the same length, calls put in between."""
    for _ in range(draw.choice((1, 1, 2))):
        fault = draw.random()
        if fault < 0.4:
            at = draw.randrange(len(content))
            content = content[:at] + draw.choice(OPCODES) + content[at + 1 :]
        elif fault < 0.7:
            at = draw.randrange(len(content) + 1)
            content = content[:at] + draw.choice(CALLS) + content[at:]
        else:
            name = draw.choice([name for name in NAMES if name in content] or [b""])
            content = content.replace(name, draw.choice((b"os", b"posix", b"builtins")).ljust(len(name), b"_"), 1)
    return content
