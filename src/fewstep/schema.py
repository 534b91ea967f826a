"""Names in a configuration: every key must be one that somebody takes; a typo is told its likely intent.

A configuration is nested plain data. A section with `_target_` (the dotted path of a class or function) takes
what its target's signature takes; any other section takes what its dataclass or mapping annotation says.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

from fewstep.annotations import accepts, described, element, entries, is_open, section
from fewstep.errors import UserError
from fewstep.provenance import shown

MISSING = "???"
_TARGET = "_target_"
_CONTROL: dict[str, Any] = {
    _TARGET: str,
    "_partial_": bool,
    "_args_": Sequence[Any],
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_FREE = Any | Mapping[str, Any]
_LARGEST_INTEGER = 2**63 - 1  # what a tensor can hold or have
_CLOSE = 0.6
_CLOSE_PREFIX = 0.75
_MOST_OPTIONS = 30


def check(config: Mapping[str, Any], root: type | None) -> None:
    """Check every key of `config`, and the types of its values where an annotation states a plain one.

    `root` is the dataclass whose fields are the top level's keys; without one the top level is a section like
    any other. Nothing is instantiated, but the modules of targets are imported.

    Raises:
        UserError: a key that nobody takes, a required one that is absent, a target that does not exist, or a
            value of the wrong type.
    """
    keys = tuple(_dotted_keys(config))
    if root is None:
        _check_value("", config, Any, keys)
    else:
        _check_settings("", config, root, keys)


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option most like `word`, or None if none is like it.

    A dotted option is also compared by its last component, so that `iteration` finds `pretrain.iterations`.
    """
    best, best_score = None, 0.0
    for option in options:
        score = max(_likeness(word, option), _likeness(word, option.rpartition(".")[2]))
        if score > best_score:
            best, best_score = option, score
    return best if best_score >= _CLOSE else None


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """The error that there is no `kind` called `name`, with the likely intent and what is allowed."""
    names = list(options)
    hint = _hint(closest(name, names))
    return UserError(f"There is no {kind} '{shown(name)}'{hint} Allowed: {_listed(names)}.")


def _check_value(path: str, value: Any, annotation: Any, keys: Sequence[str]) -> None:
    if value == MISSING:
        raise UserError(f"{shown(path)} must be given; it is {described(annotation)}.")
    if isinstance(value, int) and not -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        raise UserError(f"{shown(path)} is a whole number beyond ±2⁶³, which no setting can be.")
    if isinstance(value, Mapping) and _TARGET in value:
        _check_target(path, value, keys)
    elif not accepts(value, annotation):
        raise UserError(f"{shown(path)} is {shown(repr(value))}, but must be {described(annotation)}.")
    elif isinstance(value, Mapping):
        _check_section(path, value, annotation, keys)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_value(f"{path}[{i}]", item, _FREE if annotation is _FREE else element(annotation, i), keys)


def _check_section(path: str, value: Mapping[str, Any], annotation: Any, keys: Sequence[str]) -> None:
    """Check a section without `_target_`: a dataclass's settings, free names, or a group of sections."""
    dataclass, free = section(annotation), entries(annotation)
    if dataclass is not None:
        _check_settings(path, value, dataclass, keys)
        return
    if free is None:
        for name, entry in value.items():
            if isinstance(entry, str) and closest(_TARGET, [str(name)]):
                raise UserError(f"{shown(_join(path, name))} is not a setting; did you mean '{_TARGET}'?")
        if not is_open(annotation):
            raise UserError(f"{shown(path)} has no '{_TARGET}'; it must be {described(annotation)}.")
    for name, entry in value.items():
        # Where nothing says what a section takes, it can only be a group, whose entries are sections.
        if free is None and not isinstance(entry, Mapping):
            where = f"the section {shown(path)}" if path else "the configuration"
            raise UserError(
                f"{shown(_join(path, name))} is a setting of nothing, because {where} has no '{_TARGET}'."
            )
        _check_value(_join(path, name), entry, Any if free is None else _freely(free), keys)


def _check_target(path: str, value: Mapping[str, Any], keys: Sequence[str]) -> None:
    for name, annotation in _CONTROL.items():
        if name in value and not accepts(value[name], annotation):
            given = shown(repr(value[name]))
            raise UserError(f"{shown(_join(path, name))} is {given}, but must be {described(annotation)}.")
    target = _located(_join(path, _TARGET), value[_TARGET])
    _check_settings(path, value, target, keys)


def _check_settings(path: str, given: Mapping[str, Any], target: Callable[..., Any], keys: Sequence[str]) -> None:
    """Check the settings `given` against the signature of `target`, a class or function."""
    controls = tuple(_CONTROL) if _TARGET in given else ()
    settings = {str(name): value for name, value in given.items() if name not in controls}
    positional = given.get("_args_", ()) if controls else ()
    parameters = _parameters(target)
    named = {p.name: p for p in parameters if p.kind in _NAMED}
    rest = {p.kind: p for p in parameters if p.kind in _VARIADIC}

    for name, value in settings.items():
        parameter = named.get(name) or rest.get(inspect.Parameter.VAR_KEYWORD)
        if parameter is None:
            raise _unknown_setting(path, name, target, [*named], [*named, *controls], keys)
        _check_argument(_join(path, name), value, parameter, keys)
    in_order = [p for p in parameters if p.kind in _BY_POSITION]
    for i, value in enumerate(positional):
        parameter = in_order[i] if i < len(in_order) else rest.get(inspect.Parameter.VAR_POSITIONAL)
        where = _join(path, f"_args_[{i}]")
        if parameter is None:
            raise UserError(f"{shown(where)} is one too many: {_owner(path, target)} takes {len(in_order)}.")
        if parameter.name in settings and parameter.kind in _NAMED:
            raise UserError(f"{shown(where)} and {shown(_join(path, parameter.name))} are the same setting.")
        _check_argument(where, value, parameter, keys)

    filled = {p.name for p in in_order[: len(positional)]} | settings.keys()
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in _VARIADIC]
    absent = [repr(name) for name in required if name not in filled]
    if absent and not (controls and given.get("_partial_", False)):
        where = f"{shown(path)} ({_owner(path, target)})" if path else "The configuration"
        raise UserError(f"{where} lacks {', '.join(absent)}; it takes: {_listed(named)}.")


def _check_argument(path: str, value: Any, parameter: inspect.Parameter, keys: Sequence[str]) -> None:
    # Annotations in the wild forget that None is the default, so a default is always right.
    if not _is_default(value, parameter.default):
        variadic = parameter.kind in _VARIADIC
        _check_value(path, value, _freely(parameter.annotation) if variadic else parameter.annotation, keys)


def _freely(annotation: Any) -> Any:
    """`annotation`, or names of any kind at any depth where a mapping or `**` is declared to hold anything."""
    return _FREE if is_open(annotation) else annotation


def _unknown_setting(
    path: str,
    name: str,
    target: Callable[..., Any],
    named: Sequence[str],
    allowed: Sequence[str],
    keys: Sequence[str],
) -> UserError:
    own = _join(path, name)
    elsewhere = [key for key in keys if key != own and not key.startswith(f"{own}.")]
    guess = closest(name, allowed) or closest(name, elsewhere)
    takes = f"It takes: {_listed(named)}." if named else "It takes no settings."
    return UserError(f"{shown(own)} is not a setting of {_owner(path, target)}{_hint(guess)} {takes}")


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter]:
    """What `target` takes; anything at all where Python cannot say, as for some built-in functions."""
    for evaluate in (True, False):
        try:
            return list(inspect.signature(target, eval_str=evaluate).parameters.values())
        except Exception:
            continue
    return [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]


def _located(path: str, dotted: str) -> Callable[..., Any]:
    """The class or function at a dotted path, with its module imported."""
    parts = dotted.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{shown(path)} is '{shown(dotted)}', but must be the dotted path of a class or function.")
    found: Any = None
    for i, part in enumerate(parts):
        prefix = ".".join(parts[: i + 1])
        if found is None or (isinstance(found, ModuleType) and not hasattr(found, part)):
            module = _imported(path, dotted, prefix)
            if module is None:
                raise _unknown_target(path, dotted, found, parts[:i], part)
            found = module
        elif not hasattr(found, part):
            raise _unknown_target(path, dotted, found, parts[:i], part)
        else:
            found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{shown(path)} is '{shown(dotted)}', which is neither a class nor a function.")
    return found


def _imported(path: str, dotted: str, name: str) -> ModuleType | None:
    """Import a module; None if there is no such module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        reason = f"the module {error.name} is not installed"
        raise UserError(f"{shown(path)}={shown(dotted)} cannot be used, because {reason}.") from error
    except Exception as error:
        reason = f"importing {name} failed ({shown(str(error))})"
        raise UserError(f"{shown(path)}={shown(dotted)} cannot be used, because {reason}.") from error


def _unknown_target(path: str, dotted: str, parent: Any, parents: Sequence[str], part: str) -> UserError:
    if parent is None:
        names = {name for name in sys.modules if "." not in name}
    else:
        names = set(dir(parent)) | {m.name for m in pkgutil.iter_modules(getattr(parent, "__path__", ()))}
    guess = closest(part, sorted(name for name in names if not name.startswith("_")))
    full = ".".join([*parents, guess]) if guess else None
    place = f"{'.'.join(parents)} has no '{part}'" if parents else f"there is no module '{part}'"
    return UserError(f"{shown(path)} is '{shown(dotted)}', but {shown(place)}{_hint(full)}")


def _is_default(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


def _owner(path: str, target: Callable[..., Any]) -> str:
    return getattr(target, "__qualname__", repr(target)) if path else "the configuration"


def _likeness(word: str, option: str) -> float:
    word, option = word.lower(), option.lower()
    ratio = difflib.SequenceMatcher(None, word, option).ratio()
    return max(ratio, _CLOSE_PREFIX) if len(word) >= 3 and option.startswith(word) else ratio


def _hint(guess: str | None) -> str:
    return f"; did you mean '{shown(guess)}'?" if guess else "."


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _MOST_OPTIONS} more" if len(every) > _MOST_OPTIONS else ""
    return (", ".join(shown(name) for name in every[:_MOST_OPTIONS]) or "nothing") + more


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _dotted_keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _dotted_keys(value, f"{prefix}{name}.")
