"""The public surface of an SDK, pinned in a file beside it: what disappears from there breaks somebody's build."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def pinned(path: Path, surface: str) -> None:
    """Compare with the file; UPDATE_SURFACE=1 writes it, for a change that is meant."""
    if os.environ.get("UPDATE_SURFACE") == "1":
        path.write_text(surface)
    assert path.read_text() == surface, f"{path} is not the surface any more; if that is meant, UPDATE_SURFACE=1"


def python_surface(*modules: ModuleType) -> str:
    """Every public name of these modules with its signature, and every public method."""
    return "".join(f"{line}\n" for module in modules for line in _module(module))


def _module(module: ModuleType) -> Iterator[str]:
    names = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if _own(v, module)]
    for name in sorted(names):
        thing = getattr(module, name)
        yield f"{module.__name__}.{name}{_signature(thing)}"
        if inspect.isclass(thing):
            for attribute in sorted(a for a in dir(thing) if not a.startswith("_")):
                member = inspect.getattr_static(thing, attribute)
                if inspect.isfunction(member):
                    yield f"    {attribute}{_signature(member)}"


def _own(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__ and not getattr(value, "__name__", "_").startswith("_")


def _signature(thing: object) -> str:
    if not callable(thing):
        return f" = {type(thing).__name__}"
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return ""
    # How a class is spelled inside a default differs between Python versions.
    return re.sub(r"<factory>|<[^<>]*>", "...", text)
