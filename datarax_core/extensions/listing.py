"""Names of plugins of one kind, and the objects behind them, imported when a name is first used."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypeVar

from datarax_core.errors import PluginConflictError, PluginWarning

from .catalog import Catalog, Kind, Status
from .contract import BY_HAND, declared_name

P = TypeVar("P")

T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What is known of a plugin without importing it. ``detail`` says why it is not ready, or how else it is named."""

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


SourceInfo: TypeAlias = PluginInfo


class PluginListing(Generic[P]):
    """Names, and the objects behind them; a plugin is imported when one of its names is first used.

    A listing made without a catalog is empty.
    """

    kind: ClassVar[Kind]

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog or Catalog(self.kind)
        self._loaded: dict[str, P] = {}
        self._renamed: dict[str, str] = {}

    @classmethod
    def from_environment(cls, allow: Iterable[str] | None = None) -> Self:
        """What is installed here, less what ``DATARAX_DISABLE_PLUGINS`` switches off. Imports no plugin.

        Args:
            allow: For services: names, and distributions, that may be used; all others are disabled. None allows all.

        Raises:
            TypeError: ``allow`` is no list of names.
            PluginError: ``DATARAX_STRICT_PLUGINS=1`` is set, and a plugin that is not disabled cannot be used.
        """
        return cls(Catalog.from_environment(cls.kind, allow))

    def names(self) -> list[str]:
        """Every name that is installed or registered, usable or not, sorted."""
        return self._catalog.names()

    def describe(self) -> list[PluginInfo]:
        """Status and origin of every plugin, sorted by name. Imports none of them."""
        return sorted(self._infos(), key=lambda info: (info.name, info.origin))

    def get(self, name: str) -> P:
        """The object behind ``name``, held against the contract of its kind. A name of old warns with the new one.

        Raises:
            PluginError: The subclass says why it cannot be used, and the message what to do.
            TypeError: The name is no text.
        """
        own = self.canonical_name(name)
        if own != name:
            message = f"{self.kind.word} {name!r} is now called {own!r}, says {self.origin(name)}; write {own!r}"
            warnings.warn(PluginWarning(message), stacklevel=2)
        return self._found(own)

    def canonical_name(self, name: str) -> str:
        """The name that the object behind ``name`` gives itself: another one for an alias. Raises what `get` raises."""
        if not isinstance(name, str):
            raise TypeError(f"the name of a {self.kind.word} is text, such as {self._example!r}, not {name!r:.80}")
        self._found(name)
        return self._renamed.get(name, name)

    def origin(self, name: str) -> str:
        """Distribution and version of the one plugin behind ``name``; raises what `get` raises before it imports."""
        return self._catalog.select(name).origin

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

    def _knows(self, name: str) -> bool:
        return name in self._catalog

    def _found(self, name: str) -> P:
        if name not in self._loaded:
            if not self._knows(name):
                raise self._catalog.unknown(name, self.names())
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> P:
        loaded, entry = self._catalog.load(name), self._catalog.select(name)
        own = declared_name(loaded)
        if own in self._catalog.also_named(entry):
            self._renamed[name] = own
            return self._found(own)
        return self._checked(loaded, name, entry.origin)

    _example: ClassVar[str]

    def _checked(self, loaded: object, name: str | None, origin: str) -> P:
        """What was loaded, held against the contract; ``name`` is that of its entry point, if it has one."""
        raise NotImplementedError


class PluginRegistry(PluginListing[T]):
    """Names and the classes behind them; see `PluginListing`. Classes can be registered by hand as well.

    A registry made without a catalog is empty, for tests and for services that register what they allow.
    """

    def __init__(self, catalog: Catalog | None = None) -> None:
        super().__init__(catalog)
        self._by_hand: dict[str, T] = {}

    def names(self) -> list[str]:
        """Every name that is installed or registered, usable or not, sorted."""
        return sorted({*super().names(), *self._by_hand})

    def register(self, plugin: T) -> T:
        """Add a class without installing it, named by the default of its config's ``type``; usable as a decorator.

        Raises:
            PluginContractError: It is not what the registry holds.
            PluginConflictError: The name is taken, or belongs to a first-party distribution.
        """
        name = self._name_of(self._checked(plugin, None, BY_HAND))
        if holder := self._holder(name, plugin):
            raise PluginConflictError(
                self.kind.word,
                name,
                f"{self.kind.word} {name!r} cannot be registered as {_target(plugin)}: the name {holder}; "
                f"give {self._named_in} another `type`",
            )
        self._by_hand[name] = plugin
        return plugin

    # -- inside ---------------------------------------------------------------------------------------------------------

    _named_in: ClassVar[str] = "it"

    def _name_of(self, plugin: T) -> str:
        raise NotImplementedError

    def _infos(self) -> Iterator[PluginInfo]:
        yield from super()._infos()
        for name, plugin in self._by_hand.items():
            yield PluginInfo(name=name, status="ready", distribution=BY_HAND, version="", target=_target(plugin))

    def _knows(self, name: str) -> bool:
        return name in self._by_hand or super()._knows(name)

    def _found(self, name: str) -> T:
        return self._by_hand[name] if name in self._by_hand else super()._found(name)

    def _holder(self, name: str, plugin: T) -> str:
        """Who has the name already; empty if nobody has."""
        for info in self.describe():
            if info.name == name:
                return f"is taken by {info.target} ({info.origin})"
        home = self.kind.homes.get(name)
        if home and plugin.__module__.partition(".")[0] != home.replace("-", "_"):
            return f"belongs to {home}"
        return ""


def _target(plugin: Any) -> str:
    return f"{plugin.__module__}:{plugin.__qualname__}" if isinstance(plugin, type) else repr(plugin)
