"""Which plugins there are, and what stands behind each name: sources here, others in `stages` and `decoders`."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar

from ._catalog import Catalog, Kind, Status
from ._contract import check_source
from .errors import PluginConflictError

if TYPE_CHECKING:
    from .config import SourceConfig
    from .decoders import DecoderRegistry
    from .source import DataSourceModule
    from .stages import StageRegistry

_FIRST_PARTY: Final[Mapping[str, str]] = {
    "arrayrecord": "datarax-arrayrecord",
    "memory": "datarax-memory",
    "mix": "datarax-mix",
    "tfds": "datarax-tfds",
    "tfds_eager": "datarax-tfds",
    "tfds_streaming": "datarax-tfds",
}

_BY_HAND: Final = "registered by hand"

T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What is known of a plugin without importing it. ``detail`` says why it is not ready, and is empty if it is."""

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


class PluginRegistry(Generic[T]):
    """Names and the classes behind them; a plugin is imported when one of its names is first used.

    A registry made without a catalog is empty, for tests and for services that register what they allow.
    """

    kind: ClassVar[Kind]

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog or Catalog(self.kind)
        self._loaded: dict[str, T] = {}
        self._by_hand: dict[str, T] = {}

    @classmethod
    def from_environment(cls) -> Self:
        """What is installed here, less what ``DATARAX_DISABLE_PLUGINS`` switches off. Imports no plugin."""
        return cls(Catalog.from_environment(cls.kind))

    def names(self) -> list[str]:
        """Every name that is installed or registered, usable or not, sorted."""
        return sorted({*self._catalog.names(), *self._by_hand})

    def describe(self) -> list[PluginInfo]:
        """Status and origin of every plugin, sorted by name. Imports none of them."""
        infos = [_by_hand_info(name, plugin) for name, plugin in self._by_hand.items()]
        for entry in self._catalog.entries():
            status, detail = self._catalog.status(entry)
            infos.append(
                PluginInfo(
                    name=entry.name,
                    status=status,
                    distribution=entry.dist,
                    version=entry.version,
                    target=entry.target,
                    detail=detail,
                )
            )
        return sorted(infos, key=lambda info: (info.name, info.origin))

    def get(self, name: str) -> T:
        """The class behind ``name``, held against the contract of its kind.

        Raises:
            PluginError: The subclass says why it cannot be used, and the message what to do.
            TypeError: The name is no text.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a {self.kind.word} is text, such as {self._example!r}, not {name!r:.80}")
        if name in self._by_hand:
            return self._by_hand[name]
        if name not in self._loaded:
            if name not in self._catalog.names():
                raise self._catalog.unknown(name, self.names())
            loaded = self._catalog.load(name)
            self._loaded[name] = self._checked(loaded, name, self._catalog.select(name).origin)
        return self._loaded[name]

    def register(self, plugin: T) -> T:
        """Add a class without installing it, named by the default of its config's ``type``; usable as a decorator.

        Raises:
            PluginContractError: It is not what the registry holds.
            PluginConflictError: The name is taken, or belongs to a first-party distribution.
        """
        name = self._name_of(self._checked(plugin, None, _BY_HAND))
        if holder := self._holder(name, plugin):
            raise PluginConflictError(
                self.kind.word,
                name,
                f"{self.kind.word} {name!r} cannot be registered as {_target(plugin)}: the name {holder}; "
                f"give {self._named_in} another `type`",
            )
        self._by_hand[name] = plugin
        return plugin

    # -- what differs from kind to kind ---------------------------------------------------------------------------------

    _example: ClassVar[str]
    _named_in: ClassVar[str] = "it"

    def _checked(self, loaded: object, name: str | None, origin: str) -> T:
        """What was loaded, held against the contract; ``name`` is that of its entry point, if it has one."""
        raise NotImplementedError

    def _name_of(self, plugin: T) -> str:
        raise NotImplementedError

    def _holder(self, name: str, plugin: T) -> str:
        """Who has the name already; empty if nobody has."""
        for info in self.describe():
            if info.name == name:
                return f"is taken by {info.target} ({info.origin})"
        home = self.kind.homes.get(name)
        if home and plugin.__module__.partition(".")[0] != home.replace("-", "_"):
            return f"belongs to {home}"
        return ""


class SourceRegistry(PluginRegistry["type[DataSourceModule]"]):
    """The sources that a config can name; see `PluginRegistry`."""

    kind = Kind(word="source", group="datarax.sources", homes=_FIRST_PARTY)
    _example = "memory"
    _named_in = "its config"

    def config_type(self, name: str) -> "type[SourceConfig]":
        """The config class of the source behind ``name``; raises what `get` raises."""
        config_class: type[SourceConfig] = self.get(name).config_class
        return config_class

    def json_schema(
        self, *, stage_registry: "StageRegistry | None" = None, decoder_registry: "DecoderRegistry | None" = None
    ) -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of pipeline configs, with every source, stage and decoder that can be used here.

        Stages and decoders are those that are installed, unless registries are given. Imports them all; what cannot be used is
        left out, and warned of.
        """
        from ._pipeline_schema import pipeline_schema  # noqa: PLC0415 - which imports this module

        schema, notes = pipeline_schema(self, stage_registry, decoder_registry)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return schema

    def _checked(self, loaded: object, name: str | None, origin: str) -> "type[DataSourceModule]":
        return check_source(loaded, name, origin)

    def _name_of(self, plugin: "type[DataSourceModule]") -> str:
        name: str = plugin.config_class.model_fields["type"].default
        return name


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


def _by_hand_info(name: str, plugin: type) -> PluginInfo:
    return PluginInfo(name=name, status="ready", distribution=_BY_HAND, version="", target=_target(plugin))


def _target(plugin: Any) -> str:
    return f"{plugin.__module__}:{plugin.__qualname__}"
