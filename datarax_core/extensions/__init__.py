"""Extensions: which plugins are installed, how their classes are checked, and the hooks that they implement.

Of any kind: the registries of sources, stages and decoders are in `registry`. Names are imported when they are first used,
since listing what is installed loads neither pydantic, pluggy nor JAX. Imports `errors`, and for types
`records` and `sources`.
"""

from typing import TYPE_CHECKING

from datarax_core.faces import lazy_face

if TYPE_CHECKING:
    from .contract import API_VERSION as API_VERSION
    from .hooks import HookRegistry as HookRegistry
    from .hooks import Hooks as Hooks
    from .hookspecs import PROJECT as PROJECT
    from .hookspecs import HookSpecs as HookSpecs
    from .hookspecs import hookimpl as hookimpl
    from .hookspecs import hookspec as hookspec
    from .listing import PluginInfo as PluginInfo
    from .listing import PluginListing as PluginListing
    from .listing import PluginRegistry as PluginRegistry
    from .listing import SourceInfo as SourceInfo

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "contract": ("API_VERSION",),
        "hooks": ("HookRegistry", "Hooks"),
        "hookspecs": ("HookSpecs", "PROJECT", "hookimpl", "hookspec"),
        "listing": ("PluginInfo", "PluginListing", "PluginRegistry", "SourceInfo"),
    },
)
