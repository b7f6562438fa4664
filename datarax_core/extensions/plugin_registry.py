"""Registry of plugins: the names of one entry-point group, and the objects behind them, imported when first used."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Self, TypeVar, cast

from datarax_core.errors import PluginConflictError, PluginLoadError, PluginWarning

from .catalog import Catalog, EntryPointGroup, Status
from .contract import BY_HAND, declared_name
from .loading import PluginImportError, imported

P = TypeVar("P")

_TARGET: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""Pattern of a module and a name in it, such as ``acme.sources:Count``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """Facts about a plugin that need no import.

    ``detail`` says why it is not ready, or lists its other names. ``place`` says how a plugin came here that no distribution
    provides, as in ``--plugin ./count.py``; it is empty for an installed one.
    """

    name: str
    status: Status
    distribution: str
    version: str
    target: str
    detail: str = ""
    place: str = ""

    @property
    def origin(self) -> str:
        """Distribution and version, as in ``datarax-memory 0.1.0``; the place of a plugin without a distribution."""
        return self.place or f"{self.distribution} {self.version}".rstrip()


class PluginRegistry(Generic[P]):
    """Plugins of one entry-point group by name. A plugin is imported when its name is first used, and then checked.

    A subclass sets ``group`` and writes `check`. Classes can also be registered by hand: `register`, `register_lazily`.

    Args:
        catalog: The installed plugins. Without one the registry is empty: for tests, and for services that register the
            plugins they allow.
        on_unknown: Called when a name is unknown, before that is an error; it may register the name.
    """

    group: ClassVar[EntryPointGroup]
    """The entry points that this registry reads, and the words for its plugins in messages."""

    def __init__(self, catalog: Catalog | None = None, *, on_unknown: Callable[[], None] | None = None) -> None:
        self._catalog = catalog or Catalog(self.group)
        self._on_unknown = on_unknown
        self._loaded: dict[str, P] = {}
        self._by_hand: dict[str, P] = {}
        self._lazily: dict[str, str] = {}
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

    def read_again(self) -> None:
        """Look for plugins anew, in the environment of this moment; an allowlist holds, what was registered by hand stays."""
        self._catalog = Catalog.from_environment(self.group, self._catalog.allowed)
        self._loaded.clear()
        self._new_names.clear()
        self._by_hand = {name: one for name, one in self._by_hand.items() if not self._catalog.provides(name, one)}

    def names(self) -> list[str]:
        """Return every name that is installed or registered, usable or not, sorted."""
        return sorted({*self._catalog.names(), *self._by_hand, *self._lazily})

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
            PluginError: No plugin has the name, all that have it are disabled, or several have it.
        """
        return self._origin_by_hand(name) or self._catalog.select(name).origin

    def register(self, plugin: P) -> P:
        """Add a class without installing it, named by the default of its config's ``type``. Usable as a decorator.

        Raises:
            PluginContractError: `check` refuses it.
            PluginConflictError: The name is taken, or belongs to a first-party distribution.
        """
        name = cast("str", declared_name(self.check(plugin, None, BY_HAND)))
        named_by = "its config" if hasattr(plugin, "config_class") else "it"
        self._require_free(name, _target(plugin), plugin.__module__, f"give {named_by} another `type`")
        self._by_hand[name] = plugin
        return plugin

    def register_lazily(self, name: str, target: str) -> None:
        """Add a class that is imported when its name is first used, and checked then. Imports nothing.

        Args:
            name: Its name, which the default of its config's ``type`` must be.
            target: Where it is, as in ``"acme.sources:Count"``: module and class.

        Raises:
            ValueError: ``target`` names no module and class, or ``name`` is empty.
            TypeError: One of them is no text.
            PluginConflictError: The name is taken, or belongs to a first-party distribution.
        """
        noun, example = self.group.noun, self.group.example
        if not isinstance(name, str) or not isinstance(target, str):
            given = f"{name!r:.80} and {target!r:.80}"
            raise TypeError(
                f"a {noun} is registered lazily by two texts, such as {example!r} and 'acme:Class', not {given}"
            )
        if not name or not _TARGET.fullmatch(target):
            what = f"{target!r:.80} names no module and class" if name else "its name is empty"
            raise ValueError(f"{noun} {name!r} cannot be registered lazily: {what}; write 'package.module:Class'")
        self._require_free(name, target, target, "register it by another name")
        self._lazily[name] = target

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
                place=entry.place,
            )
        by_hand = {name: _target(plugin) for name, plugin in self._by_hand.items()} | self._lazily
        for name, target in by_hand.items():
            place = self._origin_by_hand(name)
            yield PluginInfo(name=name, status="ready", distribution=BY_HAND, version="", target=target, place=place)

    def _has(self, name: str) -> bool:
        return name in self._by_hand or name in self._lazily or name in self._catalog

    def _origin_by_hand(self, name: str) -> str:
        """Return how a plugin was registered by hand; empty if it was not."""
        if name in self._lazily:
            return f"{BY_HAND} as {self._lazily[name]}"
        return BY_HAND if name in self._by_hand else ""

    def _load_once(self, name: str) -> P:
        if not self._has(name) and self._on_unknown is not None:
            self._on_unknown()
        if name in self._by_hand:
            return self._by_hand[name]
        if name not in self._loaded:
            if not self._has(name):
                raise self._catalog.unknown(name, self.names())
            self._loaded[name] = self._load_lazily(name) if name in self._lazily else self._load(name)
        return self._loaded[name]

    def _load_lazily(self, name: str) -> P:
        origin = self._origin_by_hand(name)
        try:
            loaded = imported(name, self._lazily[name], self.group.name)
        except PluginImportError as failed:
            remedy = "correct what register_lazily was given, or that module"
            message = f"{self.group.noun} {name!r} ({origin}) {failed}; {remedy}"
            raise PluginLoadError(self.group.noun, name, message) from failed.__cause__
        return self.check(loaded, name, origin)

    def _load(self, name: str) -> P:
        loaded, entry = self._catalog.load(name), self._catalog.select(name)
        own = declared_name(loaded)
        if own in self._catalog.also_named(entry):
            self._new_names[name] = own
            return self._load_once(own)
        return self.check(loaded, name, entry.origin)

    def _require_free(self, name: str, target: str, module: str, remedy: str) -> None:
        """Raise a `PluginConflictError` if another plugin has the name, or it belongs to another package than ``module``'s."""
        noun, owner = self.group.noun, self.group.first_party.get(name)
        holder = next((info for info in self.describe() if info.name == name), None)
        if holder is not None:
            taken = f"is taken by {holder.target} ({holder.origin})"
        elif owner and module.partition(":")[0].partition(".")[0] != owner.replace("-", "_"):
            taken = f"belongs to {owner}"
        else:
            return
        message = f"{noun} {name!r} cannot be registered as {target}: the name {taken}; {remedy}"
        raise PluginConflictError(noun, name, message)


def _target(plugin: object) -> str:
    """Return a class as an entry point names it, ``package.module:Class``; any other object as its repr."""
    return f"{plugin.__module__}:{plugin.__qualname__}" if isinstance(plugin, type) else repr(plugin)
