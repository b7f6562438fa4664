"""The kinds of plugins that there are."""

from typing import Any, Final

from datarax_core.decoders import DecoderRegistry
from datarax_core.hooks import HookRegistry
from datarax_core.registry import PluginListing, PluginRegistry, SourceRegistry
from datarax_core.stages import StageRegistry

CONFIGURABLE: Final[tuple[type[PluginRegistry[Any]], ...]] = (SourceRegistry, StageRegistry, DecoderRegistry)
"""Those that a config can name."""

_ALL: Final[tuple[type[PluginListing[Any]], ...]] = (*CONFIGURABLE, HookRegistry)

REGISTRIES: Final = {registry.kind.word: registry for registry in _ALL}
"""What lists and loads the plugins of a kind, by the word for it."""
