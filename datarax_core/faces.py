"""Faces of packages that import a name when it is first used.

A face is a package's ``__init__``: it lists the package's public names. Most faces import their modules at once. Those that
must stay light (no JAX, no pydantic, no pluggy) use `lazy_face`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_face(
    package: str, homes: Mapping[str, Sequence[str]], fallback: Callable[[str], Any] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and sorted ``__all__`` of a package that imports its names on first use.

    Args:
        package: Name of the package, its ``__name__``.
        homes: For each module of the package, by its relative name, the public names that it defines.
        fallback: Returns the value of any other name, or raises ``AttributeError``; `moved.forward_names` makes one.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            if fallback is not None:
                return fallback(name)
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{home_of[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted(home_of, key=_group_and_name)

    return get, names, names()


def _group_and_name(name: str) -> tuple[int, str]:
    """Sort constants first, then classes, then functions, as ruff's RUF022 sorts an ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name
