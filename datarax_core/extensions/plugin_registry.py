"""Registry of plugins: the names of one entry-point group, and the objects behind them, imported when first used."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar, cast

from datarax_core.errors import PluginConflictError, PluginWarning

from .catalog import Catalog, EntryPointGroup, Status
from .contract import BY_HAND, declared_name

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """Facts about a plugin that need no import. ``detail`` says why it is not ready, or lists its other names."""

    name: str
    status: Status
    distribution: str
    version: str
    target: str
    detail: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version, as in ``datarax-memory 0.1.0``."""
        return f"{self.distribution} {self.version}".rstrip()


class PluginRegistry(Generic[P]):
    """Plugins of one entry-point group by name. A plugin is imported when its name is first used, and then checked.

    A subclass sets ``group`` and writes `check`. Classes can also be registered by hand.

    Args:
        catalog: The installed plugins. Without one the registry is empty: for tests, and for services that register the
            plugins they allow.
        on_unknown: Called when a name is unknown, before that is an error; it may register the name.
    """

    group: ClassVar[EntryPointGroup]

    def __init__(self, catalog: Catalog | None = None, *, on_unknown: Callable[[], None] | None = None) -> None:
        self._catalog = catalog or Catalog(self.group)
        self._on_unknown = on_unknown
        self._loaded: dict[str, P] = {}
        self._by_hand: dict[str, P] = {}
        self._new_names: dict[str, str] = {}

    @classmethod
    def from_environment(cls, allow: Iterable[str] | None = None) -> Self:
        """Return a registry of the installed plugins that ``DATARAX_DISABLE_PLUGINS`` leaves enabled. Imports no plugin.

        Args:
            allow: For services: names, and distributions, that may be used; all others are disabled. None allows all.

        Raises:
            TypeError: ``allow`` is no list of names.
            PluginError: ``DATARAX_STRICT_PLUGINS=1`` is set, and a plugin that is not disabled cannot be used.
        """
        return cls(Catalog.from_environment(cls.group, allow))

    def names(self) -> list[str]:
        """Return every name that is installed or registered, usable or not, sorted."""
        return sorted({*self._catalog.names(), *self._by_hand})

    def describe(self) -> list[PluginInfo]:
        """Return status and origin of every plugin, sorted by name. Imports no plugin."""
        return sorted(self._infos(), key=lambda info: (info.name, info.origin))

    def get(self, name: str) -> P:
        """Return the object behind ``name``, after its `check`. An alias warns with the new name.

        Raises:
            PluginError: It cannot be used; the class of the error says why, and its message how to mend it.
            TypeError: The name is no text.
        """
        own = self.canonical_name(name)
        if own != name:
            message = f"{self.group.noun} {name!r} is now called {own!r}, says {self.origin(name)}; write {own!r}"
            warnings.warn(PluginWarning(message), stacklevel=2)
        return self._load_once(own)

    def canonical_name(self, name: str) -> str:
        """Return the name that the object behind ``name`` declares: for an alias, another one. Raises the errors of `get`."""
        if not isinstance(name, str):
            example = f"{self.group.example!r}"
            raise TypeError(f"the name of a {self.group.noun} is text, such as {example}, not {name!r:.80}")
        self._load_once(name)
        return self._new_names.get(name, name)

    def origin(self, name: str) -> str:
        """Return distribution and version of the one plugin behind ``name``. Imports nothing.

        Raises:
            PluginError: No installed plugin has the name, all that have it are disabled, or several have it.
        """
        return self._catalog.select(name).origin

    def register(self, plugin: P) -> P:
        """Add a class without installing it, named by the default of its config's ``type``. Usable as a decorator.

        Raises:
            PluginContractError: `check` refuses it.
            PluginConflictError: The name is taken, or belongs to a first-party distribution.
        """
        name = cast("str", declared_name(self.check(plugin, None, BY_HAND)))
        if holder := self._holder(name, plugin):
            noun = self.group.noun
            named_by = "its config" if hasattr(plugin, "config_class") else "it"
            message = f"{noun} {name!r} cannot be registered as {_target(plugin)}: the name {holder}"
            raise PluginConflictError(noun, name, f"{message}; give {named_by} another `type`")
        self._by_hand[name] = plugin
        return plugin

    def check(self, loaded: object, name: str | None, origin: str) -> P:
        """Return ``loaded`` if this registry may hold it.

        Args:
            loaded: The object that was loaded or registered.
            name: Name of its entry point; None if it is registered by hand.
            origin: Its distribution and version, or "registered by hand".

        Raises:
            PluginContractError: It may not; lists everything that is missing, with the code to write.
        """
        raise NotImplementedError

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _infos(self) -> Iterator[PluginInfo]:
        for entry in self._catalog.entries():
            status, detail = self._catalog.status(entry)
            yield PluginInfo(
                name=entry.name,
                status=status,
                distribution=entry.dist,
                version=entry.version,
                target=entry.target,
                detail=detail,
            )
        for name, plugin in self._by_hand.items():
            yield PluginInfo(name=name, status="ready", distribution=BY_HAND, version="", target=_target(plugin))

    def _has(self, name: str) -> bool:
        return name in self._by_hand or name in self._catalog

    def _load_once(self, name: str) -> P:
        if not self._has(name) and self._on_unknown is not None:
            self._on_unknown()
        if name in self._by_hand:
            return self._by_hand[name]
        if name not in self._loaded:
            if name not in self._catalog:
                raise self._catalog.unknown(name, self.names())
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> P:
        loaded, entry = self._catalog.load(name), self._catalog.select(name)
        own = declared_name(loaded)
        if own in self._catalog.also_named(entry):
            self._new_names[name] = own
            return self._load_once(own)
        return self.check(loaded, name, entry.origin)

    def _holder(self, name: str, plugin: P) -> str:
        """Return who has the name already; empty if nobody has."""
        for info in self.describe():
            if info.name == name:
                return f"is taken by {info.target} ({info.origin})"
        owner = self.group.first_party.get(name)
        if owner and plugin.__module__.partition(".")[0] != owner.replace("-", "_"):
            return f"belongs to {owner}"
        return ""


def _target(plugin: object) -> str:
    """Return a class as an entry point names it, ``package.module:Class``; any other object as its repr."""
    return f"{plugin.__module__}:{plugin.__qualname__}" if isinstance(plugin, type) else repr(plugin)
