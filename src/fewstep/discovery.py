"""Methods by their word: the class whose `name` it is, so that a new file needs no registry."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

from fewstep.schema import unknown


def named(package: str) -> dict[str, type[Any]]:
    """Name → class, for every class in the files of `fewstep.<package>` that states its name."""
    classes = _classes(f"fewstep.{package}")
    return {found.name: found for found in classes if isinstance(getattr(found, "name", None), str)}


def find(package: str, name: str) -> type[Any]:
    """The class called `name` in the files of `fewstep.<package>`.

    Raises:
        UserError: there is none; the sentence lists what there is.
    """
    found = named(package)
    if name not in found:
        raise unknown(package.rstrip("s") if package != "search" else package, name, sorted(found))
    return found[name]


def _classes(package: str) -> Iterator[type[Any]]:
    """Every class that a file of the package defines."""
    folder = importlib.import_module(package)
    for entry in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{package}.{entry.name}")
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__:
                yield found
