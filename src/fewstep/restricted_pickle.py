"""Pickles of strangers, read without running anything in them.

A pickle is a program. Here it may build plain data, and where it names a class or a function it gets what the
reader puts in that one's place, or is refused.
"""

import mmap
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fewstep.errors import UserError
from fewstep.provenance import shown

StandIns = Mapping[tuple[str, str], Callable[..., Any]]


class Refused(pickle.UnpicklingError):
    """Something in a file that its reader does not know; the message completes "the file …"."""


class Inert:
    """Stands for an object of a pickle and does nothing: it keeps what it was called with, and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None


def read_pickle(path: Path, stand_ins: StandIns, encoding: str = "ASCII") -> Any:
    """The only object of a pickle.

    Args:
        path: the file.
        stand_ins: (module, name) → the function or class that is called in place of the one of that name.
        encoding: of the text in pickles of Python 2.

    Raises:
        UserError: the file cannot be read, is damaged, or names anything that `stand_ins` lacks.
    """
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise Refused("is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Unpickler(content, stand_ins, encoding).load()
    except Refused as error:
        raise UserError(f"The file {path} {error}; nothing in it was run.") from None
    except OSError as error:
        raise UserError(f"The file {path} cannot be read: {error.strerror or error}.") from None
    except Exception:  # an unpickler lets through whatever it meets
        raise UserError(f"The file {path} is no pickle, or a damaged one; nothing in it was run.") from None


# Python's own class and not its faster twin in C, because opcodes can be taken away from it, and because its table
# of remembered objects is a dictionary: in C an index from the file decides how much memory is taken.
class _Unpickler(pickle._Unpickler):
    stack: list[Any]

    def __init__(self, file: Any, stand_ins: StandIns, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._stand_ins = stand_ins

    def find_class(self, module: str, name: str) -> Any:
        """What stands in the place of a global."""
        if (module, name) not in self._stand_ins:
            raise Refused(f"names {shown(f'{module}.{name}')}, which such a file does not need")
        return self._stand_ins[module, name]

    def _call(self) -> None:
        arguments = self.stack.pop()
        called = self.stack.pop()
        if not isinstance(arguments, tuple) or not any(called is known for known in self._stand_ins.values()):
            raise Refused("calls something that is not known")
        self.stack.append(called(*arguments))

    def _set_state(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Inert):  # least of all a class or function that stands in for another
            raise Refused("gives a state to something that has none")
        self.stack[-1].state = state

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _set_state,
    }
    for _opcode in (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        del dispatch[_opcode[0]]
