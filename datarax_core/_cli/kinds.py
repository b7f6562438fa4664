"""The kinds of plugins that there are."""

from typing import Any, Final

from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.listing import PluginListing, PluginRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

CONFIGURABLE: Final[tuple[type[PluginRegistry[Any]], ...]] = (SourceRegistry, StageRegistry, DecoderRegistry)
"""Those that a config can name."""

_ALL: Final[tuple[type[PluginListing[Any]], ...]] = (*CONFIGURABLE, HookRegistry)

REGISTRIES: Final = {registry.kind.word: registry for registry in _ALL}
"""What lists and loads the plugins of a kind, by the word for it."""
