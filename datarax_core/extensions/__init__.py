"""Extensions: the installed plugins, the checks of their classes, and the hooks that they implement.

The registries of sources, stages and decoders are in `registry`. Names are imported when they are first used, since listing
the installed plugins loads neither pydantic, pluggy nor JAX. Imports `errors`, `config`, and for types `records` and `sources`.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from .contract import API_VERSION as API_VERSION
    from .hooks import HookRegistry as HookRegistry
    from .hooks import Hooks as Hooks
    from .hookspecs import PROJECT as PROJECT
    from .hookspecs import Builder as Builder
    from .hookspecs import HookSpecs as HookSpecs
    from .hookspecs import Registrar as Registrar
    from .hookspecs import ServingPipeline as ServingPipeline
    from .hookspecs import hookimpl as hookimpl
    from .hookspecs import hookspec as hookspec
    from .plugin_registry import PluginInfo as PluginInfo
    from .plugin_registry import PluginRegistry as PluginRegistry

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "contract": ("API_VERSION",),
        "hooks": ("HookRegistry", "Hooks"),
        "hookspecs": ("Builder", "HookSpecs", "PROJECT", "Registrar", "ServingPipeline", "hookimpl", "hookspec"),
        "plugin_registry": ("PluginInfo", "PluginRegistry"),
    },
)
