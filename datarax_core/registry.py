"""Which sources there are, and the class behind each name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from ._catalog import Catalog, Kind, Status
from ._contract import check_source
from .errors import (
    SourceConflictError,
    SourceDisabledError,
    SourceIncompatibleError,
    SourceLoadError,
    SourceNotFoundError,
)

if TYPE_CHECKING:
    from .config import SourceConfig
    from .source import DataSourceModule

_FIRST_PARTY: Final[Mapping[str, str]] = {
    "arrayrecord": "datarax-arrayrecord",
    "memory": "datarax-memory",
    "mix": "datarax-mix",
    "tfds": "datarax-tfds",
    "tfds_eager": "datarax-tfds",
    "tfds_streaming": "datarax-tfds",
}

SOURCES: Final = Kind(
    word="source",
    group="datarax.sources",
    homes=_FIRST_PARTY,
    not_found=SourceNotFoundError,
    disabled=SourceDisabledError,
    conflict=SourceConflictError,
    incompatible=SourceIncompatibleError,
    broken=SourceLoadError,
)

_BY_HAND: Final = "registered by hand"

S = TypeVar("S", bound="type[DataSourceModule]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What is known of a source without importing it. ``detail`` says why it is not ready, and is empty if it is."""

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


class SourceRegistry:
    """Names and the source classes behind them; a plugin is imported when one of its names is first used.

    A registry made without a catalog is empty, for tests and for services that register what they allow.
    """

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog or Catalog(SOURCES)
        self._loaded: dict[str, type[DataSourceModule]] = {}
        self._by_hand: dict[str, type[DataSourceModule]] = {}

    @classmethod
    def from_environment(cls) -> "SourceRegistry":
        """What is installed here, less what ``DATARAX_DISABLE_PLUGINS`` switches off. Imports no plugin."""
        return cls(Catalog.from_environment(SOURCES))

    def names(self) -> list[str]:
        """Every name that is installed or registered, usable or not, sorted."""
        return sorted({*self._catalog.names(), *self._by_hand})

    def describe(self) -> list[SourceInfo]:
        """Status and origin of every source, sorted by name. Imports no plugin."""
        infos = [_by_hand_info(name, source) for name, source in self._by_hand.items()]
        for entry in self._catalog.entries():
            status, detail = self._catalog.status(entry)
            infos.append(
                SourceInfo(
                    name=entry.name,
                    status=status,
                    distribution=entry.dist,
                    version=entry.version,
                    target=entry.target,
                    detail=detail,
                )
            )
        return sorted(infos, key=lambda info: (info.name, info.origin))

    def get(self, name: str) -> "type[DataSourceModule]":
        """The class behind ``name``, held against the contract of a source.

        Raises:
            SourceError: The subclass says why the source cannot be used, and the message what to do.
            TypeError: The name is no text.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a source is text, such as 'memory', not {name!r:.80}")
        if name in self._by_hand:
            return self._by_hand[name]
        if name not in self._loaded:
            if name not in self._catalog.names():
                raise self._catalog.unknown(name, self.names())
            loaded = self._catalog.load(name)
            self._loaded[name] = check_source(loaded, name, self._catalog.select(name).origin)
        return self._loaded[name]

    def config_type(self, name: str) -> "type[SourceConfig]":
        """The config class of the source behind ``name``; raises what `get` raises."""
        config_class: type[SourceConfig] = self.get(name).config_class
        return config_class

    def register(self, source: S) -> S:
        """Add a class without installing it, named by the default of its config's ``type``; usable as a decorator.

        Raises:
            SourceContractError: It is no source.
            SourceConflictError: The name is taken, or belongs to a first-party distribution.
        """
        name = check_source(source, None, _BY_HAND).config_class.model_fields["type"].default
        if holder := self._holder(name, source):
            raise SourceConflictError(
                name,
                f"source {name!r} cannot be registered as {_target(source)}: the name {holder}; "
                "give its config another `type`",
            )
        self._by_hand[name] = source
        return source

    def _holder(self, name: str, source: "type[DataSourceModule]") -> str:
        """Who has the name already; empty if nobody has."""
        for info in self.describe():
            if info.name == name:
                return f"is taken by {info.target} ({info.origin})"
        home = _FIRST_PARTY.get(name)
        if home and source.__module__.partition(".")[0] != home.replace("-", "_"):
            return f"belongs to {home}"
        return ""


@cache
def default_registry() -> SourceRegistry:
    """The registry that is used where none is given: the environment, read once in a process."""
    return SourceRegistry.from_environment()


def given_or_default(registry: SourceRegistry | None) -> SourceRegistry:
    """The registry that a caller gave, or `default_registry`.

    Raises:
        TypeError: It is no registry.
    """
    if not isinstance(registry, SourceRegistry | None):
        raise TypeError(f"registry is a SourceRegistry, or None for what is installed, not {registry!r:.80}")
    return default_registry() if registry is None else registry


def _by_hand_info(name: str, source: "type[DataSourceModule]") -> SourceInfo:
    return SourceInfo(name=name, status="ready", distribution=_BY_HAND, version="", target=_target(source))


def _target(source: type) -> str:
    return f"{source.__module__}:{source.__qualname__}"
