"""What plain data (numbers, text, lists, mappings, null) a type annotation allows.

Only what plain data can decide is decided: an annotation of a class that is neither a dataclass nor a protocol
allows anything.
"""

import inspect
import types
from collections.abc import Collection, Iterable, Mapping, MutableSequence, Sequence, Set
from dataclasses import InitVar, is_dataclass
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin

_SCALARS: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    types.NoneType: (types.NoneType,),
}
_SCALAR_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    types.NoneType: "null",
}
_LISTS = (list, tuple, set, frozenset, Sequence, MutableSequence, Iterable, Collection, Set)


def accepts(value: Any, annotation: Any) -> bool:
    """Whether plain `value` may stand for `annotation`; what a list or mapping holds is not looked at."""
    return any(_accepts_one(value, member) for member in _members(annotation))


def described(annotation: Any) -> str:
    """`annotation` in words, to end the sentence "it must be …"."""
    return " or ".join(dict.fromkeys(_described_one(member) for member in _members(annotation)))


def element(annotation: Any, index: int) -> Any:
    """The annotation of a list's element at `index`; `Any` if none is stated."""
    found = []
    for member in _members(annotation):
        arguments = get_args(member)
        if _class_of(member) not in _LISTS or not arguments:
            continue
        fixed = _class_of(member) is tuple and arguments[-1] is not Ellipsis
        if fixed and index < len(arguments):
            found.append(arguments[index])
        elif not fixed:
            found.append(arguments[0])
    return Union[tuple(found)] if found else Any  # noqa: UP007


def entries(annotation: Any) -> Any | None:
    """The annotation of a mapping's values; None if `annotation` is not of a mapping."""
    for member in _members(annotation):
        if _is_mapping(_class_of(member)):
            arguments = get_args(member)
            return arguments[1] if len(arguments) == 2 else Any
    return None


def section(annotation: Any) -> type | None:
    """The dataclass that `annotation` names, if it names one."""
    for member in _members(annotation):
        if inspect.isclass(member) and is_dataclass(member):
            return member
    return None


def is_open(annotation: Any) -> bool:
    """Whether `annotation` says nothing, so that anything is allowed."""
    return any(member in (Any, object) for member in _members(annotation))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, without aliases; what cannot be known is `Any`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(member for argument in get_args(annotation) for member in _members(argument))
    if isinstance(annotation, NewType):
        return _members(annotation.__supertype__)
    if isinstance(annotation, InitVar):
        return _members(annotation.type)
    if annotation is None:
        return (types.NoneType,)
    if annotation is inspect.Parameter.empty or isinstance(annotation, str | TypeVar):
        return (Any,)
    return (annotation,)


def _class_of(member: Any) -> Any:
    return get_origin(member) or member


def _is_mapping(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Mapping)


def _needs_section(kind: Any) -> bool:
    """Whether only an object can stand for `kind`, never a number, text or list."""
    if not inspect.isclass(kind) or kind.__module__ == "typing":
        return False
    return is_dataclass(kind) or getattr(kind, "_is_protocol", False)


def _accepts_one(value: Any, member: Any) -> bool:
    kind = _class_of(member)
    if kind is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(member))
    if kind in _SCALARS:
        return type(value) in _SCALARS[kind]
    if isinstance(value, Mapping):
        return kind not in _LISTS
    if isinstance(value, list | tuple):
        arguments = get_args(member)
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            return len(value) == len(arguments)
        return kind in _LISTS or not (_is_mapping(kind) or _needs_section(kind))
    return kind not in _LISTS and not _is_mapping(kind) and not _needs_section(kind)


def _described_one(member: Any) -> str:
    kind = _class_of(member)
    if kind is Any or kind is object:
        return "anything"
    if kind is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(member))
    if kind in _SCALAR_NAMES:
        return _SCALAR_NAMES[kind]
    if kind in _LISTS:
        arguments = [argument for argument in get_args(member) if argument is not Ellipsis]
        if kind is tuple and len(arguments) > 1:
            return f"a list of {len(arguments)} values"
        return f"a list (each {described(arguments[0])})" if arguments else "a list"
    if _is_mapping(kind):
        return "a section of names and values"
    name = getattr(kind, "__name__", str(kind))
    return f"a section that describes {name}" if _needs_section(kind) else str(name)
