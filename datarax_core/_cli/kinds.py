"""Registries of all kinds of plugins."""

from typing import Any, Final

from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.plugin_registry import PluginRegistry
from datarax_core.registry.decoders import DecoderRegistry
from datarax_core.registry.sources import SourceRegistry
from datarax_core.registry.stages import StageRegistry

CONFIGURABLE: Final[tuple[type[PluginRegistry[Any]], ...]] = (SourceRegistry, StageRegistry, DecoderRegistry)
"""Registries of plugins that a config can name."""

_ALL: Final[tuple[type[PluginRegistry[Any]], ...]] = (*CONFIGURABLE, HookRegistry)

REGISTRIES: Final = {registry.group.word: registry for registry in _ALL}
"""For the name of each kind of plugin, the registry that lists and loads plugins of that kind."""
