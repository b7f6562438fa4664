"""Plugins of one test: what a process sees in place of the installed plugins, and what its child processes see."""

import atexit
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, Self

from datarax_core.errors import PluginNotFoundError, did_you_mean
from datarax_core.extensions.catalog import DISABLE_VARIABLE
from datarax_core.extensions.contract import declared_name
from datarax_core.extensions.defaults import made_so_far, set_aside
from datarax_core.extensions.discovery import GROUPS, ISOLATED, NAMED, STAND_INS, Environment, Installed
from datarax_core.extensions.distributions import canonical_name, installed
from datarax_core.extensions.hooks import Hooks
from datarax_core.extensions.loading import HANDED_ON, PLACES_VARIABLE, STRICT_VARIABLE
from datarax_core.extensions.named import group_of, has_hooks, plugins_in, plugins_of
from datarax_core.extensions.places import FIRST_FOLDER, Place
from datarax_core.extensions.plugin_registry import PluginRegistry

Status = Literal["ready", "disabled", "conflict", "unmet"]

_VARIABLES: Final = (PLACES_VARIABLE, FIRST_FOLDER, HANDED_ON, DISABLE_VARIABLE, STRICT_VARIABLE)
"""Variables that an isolated test does not inherit."""

_ABSENT: Final = "acme-absent>=1"
"""Requirement that no environment satisfies."""

_Plugin = tuple[str, str, str, object]
"""Group, name, target, and the object itself."""


class Plugins:
    """Plugins of a test, in a ``with`` block: core's own, those that are added, and distributions that are let in.

    In the block, the default registries and hooks are new ones, and every registry ``from_environment``, command and child
    process sees these plugins only. ``DATARAX_PLUGINS`` and its like are unset. Blocks nest: the inner one counts.

    Args:
        beside_installed: See what is installed, too; the default registries and hooks stay what they are.
    """

    def __init__(self, *, beside_installed: bool = False) -> None:
        self._beside_installed = beside_installed
        self._allowed: set[str] = set()
        self._added: dict[tuple[str, Installed], object] = {}
        self._stack = ExitStack()
        self._outer: Plugins | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(variables_as_before(() if self._beside_installed else _VARIABLES))
            stack.enter_context(imports_as_before())
            if self._beside_installed:
                stack.callback(_read_again)
            else:
                stack.enter_context(set_aside())
                stack.callback(_close_pipelines)
            self._outer = getattr(STAND_INS[-1], "__self__", None) if STAND_INS else None
            STAND_INS.append(self._environment)
            stack.callback(STAND_INS.remove, self._environment)
            self._tell()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(
        self,
        plugin: object,
        *,
        distribution: str = "",
        version: str = "1.0",
        requires: Iterable[str] = (),
        status: Status = "ready",
    ) -> None:
        """Add a plugin as if a distribution that provides it were installed.

        Args:
            plugin: The class of a source, stage or decoder; a module with such classes, or with functions marked ``@hookimpl``;
                an object with such methods; or a word for a place, such as ``"path/to/file.py:Class"``.
            distribution: The name of the distribution; by default ``acme-`` and the plugin's name.
            version: Its version.
            requires: Its requirements, such as ``"datarax-core>=2"``.
            status: The status that the plugin has: ``"disabled"`` by ``DATARAX_DISABLE_PLUGINS``, ``"conflict"`` with another
                distribution that provides the name, ``"unmet"`` for want of a distribution that is not installed.

        Raises:
            TypeError: It is no plugin.
            PluginNotFoundError: The word names nothing.
            PluginLoadError: The code of the file or module fails.
        """
        for group, name, target, loaded in _plugins_of(plugin):
            dist = canonical_name(distribution or f"acme-{name}")
            needs = (*requires, *([_ABSENT] if status == "unmet" else []))
            for each in (dist, f"{dist}-too") if status == "conflict" else (dist,):
                self._added[group, Installed(name, each, version, target, needs)] = loaded
            if status == "disabled":
                self.disable(name)
        self._tell()

    def allow(self, *distributions: str) -> None:
        """Let the plugins of installed distributions in.

        Raises:
            PluginNotFoundError: One is not installed, or has no plugins.
        """
        environment = Environment(installed())
        known = {entry.dist for group in GROUPS for entry in environment.entries(group)}
        for name in distributions:
            if canonical_name(name) not in known:
                message = f"no distribution with plugins is called {name!r}"
                hint = did_you_mean(name, known) or f" (installed: {', '.join(sorted(known))})"
                raise PluginNotFoundError("distribution", name, message + hint)
            self._allowed.add(canonical_name(name))
        self._tell()

    def disable(self, *names: str) -> None:
        """Switch plugins or distributions off, as ``DATARAX_DISABLE_PLUGINS`` does, until the test is over."""
        words = [*filter(None, os.environ.get(DISABLE_VARIABLE, "").split(",")), *names]
        os.environ[DISABLE_VARIABLE] = ",".join(dict.fromkeys(words))
        self._tell()

    def hidden(self) -> list[str]:
        """Return plugins that only this process has: objects, and classes that are defined in a function."""
        return [f"{entry.name!r} ({entry.origin})" for _, entry in self._added if not _is_importable(entry)]

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _environment(self) -> Environment:
        if not self._beside_installed:
            environment = Environment.isolated([*self._allowed], [])
        else:
            environment = Environment(installed()) if self._outer is None else self._outer._environment()  # noqa: SLF001 - of its own class
        for (group, entry), loaded in self._added.items():
            environment.add(group, entry, loaded)
        return environment

    def _tell(self) -> None:
        """Have registries and hooks that exist, and child processes that will, see the plugins of this moment."""
        os.environ[ISOLATED] = json.dumps(self._told())
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        _read_again()

    def _told(self) -> dict[str, Any]:
        """Return the arguments of `Environment.isolated` with which child processes see the same plugins."""
        added = [
            (group, entry.name, entry.dist, entry.version, entry.target, entry.requires)
            for group, entry in self._added
            if _is_importable(entry)
        ]
        hidden = [(entry.name, entry.origin) for _, entry in self._added if not _is_importable(entry)]
        if not self._beside_installed:
            return {"only": sorted(self._allowed), "added": added, "hidden": hidden}
        outer: dict[str, Any] = {"only": None, "added": [], "hidden": []}
        if self._outer is not None:
            outer = self._outer._told()  # noqa: SLF001 - of its own class
        return {"only": outer["only"], "added": [*outer["added"], *added], "hidden": [*outer["hidden"], *hidden]}


def _plugins_of(plugin: object) -> list[_Plugin]:
    """Return the plugins that an argument of `Plugins.add` stands for.

    Raises:
        TypeError: It is none, and no word.
    """
    if isinstance(plugin, str):
        return plugins_of(Place(plugin, "plugins.add", str(Path.cwd())))
    if isinstance(plugin, ModuleType):
        found = list(plugins_in(plugin))
    elif isinstance(plugin, type) and (group := group_of(plugin)):
        found = [(group, declared_name(plugin) or plugin.__name__, _target(plugin), plugin)]
    elif not isinstance(plugin, type) and has_hooks(_functions(plugin)):
        name = type(plugin).__name__
        found = [("datarax.hooks", name, f"{type(plugin).__module__}:<{name} object>", plugin)]
    else:
        found = []
    if not found:
        kinds = "the class of a source, stage or decoder, a module or object with functions marked @hookimpl"
        raise TypeError(f"plugins.add takes {kinds}, or a word for a file or module, not {plugin!r:.80}")
    return found


def _functions(plugin: object) -> list[Any]:
    return [getattr(type(plugin), name, None) for name in dir(type(plugin))]


def _target(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_importable(entry: Installed) -> bool:
    return "<" not in entry.target and entry.package != "__main__"


def _read_again() -> None:
    for made in made_so_far():
        if isinstance(made, PluginRegistry | Hooks):
            made.read_again()


def _close_pipelines() -> None:
    """Close the pipelines that hooks of the test were called for, and keep nothing for the end of the process."""
    for made in made_so_far():
        if isinstance(made, Hooks):
            atexit.unregister(made.close_pipelines)
            made.close_pipelines()


@contextmanager
def variables_as_before(unset: Iterable[str] = ()) -> Iterator[None]:
    """Unset environment variables for the time of a ``with`` block, after which those that tell of plugins are as before."""
    before = {name: os.environ.get(name) for name in (*_VARIABLES, ISOLATED, "PYTHONPATH")}
    for name in unset:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def imports_as_before() -> Iterator[None]:
    """Forget the modules that were imported from folders which words for files put on the path in a ``with`` block."""
    path, modules, named = list(sys.path), set(sys.modules), dict(NAMED)
    try:
        yield
    finally:
        folders = [folder for folder in sys.path if folder not in path]
        sys.path[:] = path
        for name in set(sys.modules) - modules if folders else ():
            if _is_from(name, folders):
                del sys.modules[name]
        NAMED.clear()
        NAMED.update(named)


def _is_from(name: str, folders: Iterable[str]) -> bool:
    """Return whether a module was found in one of the ``folders``; not deep below it, as in an environment in a project."""
    module, top = sys.modules[name], name.partition(".")[0]
    places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
    begins = tuple(str(Path(folder, top)) + end for folder in folders for end in (".", os.sep))
    return any(f"{place}{os.sep}".startswith(begins) for place in places)
