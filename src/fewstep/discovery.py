"""Methods by their word: the class whose `name` it is, so that a new file needs no registry."""

import importlib
import inspect
import pkgutil
from typing import Any

from fewstep.schema import unknown


def find(package: str, name: str) -> type[Any]:
    """The class called `name` in the files of `fewstep.<package>`.

    Raises:
        UserError: there is none; the sentence lists what there is.
    """
    found = {
        candidate.name: candidate
        for module in _modules(f"fewstep.{package}")
        for _, candidate in inspect.getmembers(module, inspect.isclass)
        if candidate.__module__ == module.__name__ and isinstance(getattr(candidate, "name", None), str)
    }
    if name not in found:
        raise unknown(package.rstrip("s") if package != "search" else package, name, sorted(found))
    return found[name]


def _modules(package: str):  # type: ignore[no-untyped-def]
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__):
        yield importlib.import_module(f"{package}.{module.name}")
