"""The kinds of plugins that there are."""

from typing import Any, Final

from datarax_core._catalog import Catalog, Kind
from datarax_core.decoders import DecoderRegistry
from datarax_core.registry import PluginInfo, PluginRegistry, SourceRegistry

REGISTRIES: Final[tuple[type[PluginRegistry[Any]], ...]] = (SourceRegistry, DecoderRegistry)
"""Of the kinds whose plugins are classes that a config can name."""

KINDS: Final = (
    *(registry.kind for registry in REGISTRIES),
    Kind(word="stage", group="datarax.stages", homes={}),
    Kind(word="hook", group="datarax.hooks", homes={}),
)
"""All of them."""


def described(kind: Kind) -> list[PluginInfo]:
    """Status and origin of every plugin of a kind, sorted by name. Imports none of them."""
    return PluginRegistry[Any](Catalog.from_environment(kind)).describe()
