"""Who listens: hook plugins, loaded one at a time when the first pipeline is built, and objects registered by hand."""

import atexit
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakValueDictionary

import pluggy

from ._catalog import Kind
from ._hook_functions import Implementations
from ._strictness import leave_out
from .compatibility import BY_HAND, check_api_version
from .errors import PluginConflictError, PluginDisabledError, PluginError, PluginLoadError
from .hookspecs import PROJECT, HookSpecs, hookimpl
from .registry import PluginListing, SourceRegistry, default_registry

if TYPE_CHECKING:
    from .build import SourceBuilder
    from .config import SourceConfig
    from .errors import RecordError
    from .pipeline import Pipeline
    from .source import DataSourceModule

_WORD: Final = "hook plugin"
_CORE: Final = "datarax-core"
_ANSWERS: Final = ("raise", "substitute", None)


class HookRegistry(PluginListing[object]):
    """The installed hook plugins, modules or objects; see `PluginListing`. `Hooks` calls them."""

    kind = Kind(word=_WORD, group="datarax.hooks", homes={})
    _example = "progress"

    def _checked(self, loaded: object, name: str | None, origin: str) -> object:
        Implementations(loaded, name or repr(loaded), origin)
        return loaded


class Hooks:
    """Calls the hooks of all that listens; see `hookspecs` for what is called when.

    Args:
        sources: Where ``datarax_register_sources`` registers.
    """

    def __init__(self, sources: SourceRegistry) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        self._manager.register(_Core(), _CORE)
        self._implementations: dict[int, tuple[object, Implementations]] = {}
        self._lock = threading.RLock()
        self._is_loaded = self._is_loading = False
        self.call: Final = cast(HookSpecs, self._manager.hook)
        """The hooks, to be called with arguments by name."""
        self.hears_batches = False
        """Whether anybody implements ``datarax_batch_ready``."""
        self.open_pipelines: Final[WeakValueDictionary[int, Pipeline]] = WeakValueDictionary()
        self._manager.hook.datarax_register_sources.call_historic(kwargs={"registry": sources})

    def load_installed(self, *, allow: Iterable[str] | None = None) -> None:
        """Load the installed hook plugins, once; each that cannot be used is left out with a `PluginWarning`.

        The first pipeline does so. A service that allows some calls it before, with their names or distributions.

        Raises:
            RuntimeError: ``allow`` comes too late: plugins are loaded.
            PluginError: ``DATARAX_STRICT_PLUGINS=1`` is set, and a plugin cannot be used.
        """
        if self._is_loaded and allow is None:
            return
        with self._lock:  # who comes second waits for the first, but a plugin that builds a pipeline as it is imported
            if self._is_loaded and allow is not None:
                raise RuntimeError("hook plugins are loaded; allow some of them before the first pipeline is built")
            if self._is_loaded or self._is_loading:
                return
            self._is_loading = True
            try:
                self._load(HookRegistry.from_environment(allow))
                self._is_loaded = True
            finally:
                self._is_loading = False

    def register(self, plugin: object, name: str | None = None) -> None:
        """Have the hooks of a module or object called, in this process; ``name`` is what errors call it.

        Raises:
            PluginContractError: It implements no hook, or one that does not exist or cannot be called.
            PluginConflictError: It, or another one of that name, is registered already.
            PluginIncompatibleError: It says that it is written for another core.
        """
        own = getattr(plugin, "__name__", type(plugin).__name__)
        free = (f"{own} {number}" if number else own for number in range(len(self._implementations) + 1))
        self._add(plugin, name or next(word for word in free if not self._manager.has_plugin(word)), BY_HAND)

    def unregister(self, plugin: object) -> None:
        """Have the hooks of ``plugin`` called no more.

        Raises:
            ValueError: It is not registered.
        """
        if id(plugin) not in self._implementations:
            raise ValueError(f"{plugin!r:.80} is not registered, and so cannot be unregistered")
        self._manager.unregister(self._implementations.pop(id(plugin))[1])
        self._look_who_listens()

    @contextmanager
    def registered(self, plugin: object, name: str | None = None) -> Iterator[None]:
        """`register`, for the time of a block."""
        self.register(plugin, name)
        try:
            yield
        finally:
            self.unregister(plugin)

    def hears(self, hook: str) -> bool:
        """Whether anybody implements ``hook``, besides core itself."""
        return any(impl.plugin_name != _CORE for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def close_pipelines(self) -> None:
        """Close whatever is open, as at the end of the process; one that fails to be closed keeps no other open."""
        with ExitStack() as stack:
            for pipeline in list(self.open_pipelines.values()):
                stack.callback(pipeline.close)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _load(self, registry: HookRegistry) -> None:
        for name in registry.names():
            try:
                plugin, origin = registry.get(name), registry.origin(name)
                if id(plugin) not in self._implementations:
                    self._add(plugin, name, origin)
            except PluginDisabledError:
                continue
            except PluginError as error:
                leave_out(error, "none of its hooks is called")

    def _add(self, plugin: object, name: str, origin: str) -> None:
        check_api_version(plugin, _WORD, name, origin)
        implementations = Implementations(plugin, name, origin)
        if id(plugin) in self._implementations or self._manager.has_plugin(name):
            message = f"hook plugin {name!r} ({origin}) or one of its name is registered already; unregister that first"
            raise PluginConflictError(_WORD, name, message)
        try:
            self._manager.register(implementations, name)
        except Exception as cause:  # of its datarax_register_sources: the boundary to code of others
            self._manager.unregister(implementations)
            if origin == BY_HAND:
                raise
            message = f"hook plugin {name!r} ({origin}) failed to register its sources: {type(cause).__name__}: {cause}"
            raise PluginLoadError(_WORD, name, message) from cause
        self._implementations[id(plugin)] = plugin, implementations
        self._look_who_listens()

    def _look_who_listens(self) -> None:
        self.hears_batches = self.hears("datarax_batch_ready")


class _Core:
    """What core itself implements."""

    @hookimpl(trylast=True)
    def datarax_create_source(self, config: "SourceConfig", build: "SourceBuilder") -> "DataSourceModule":
        return build.from_class(config)


@cache
def default_hooks() -> Hooks:
    """The hooks of this process, which every pipeline calls."""
    hooks = Hooks(default_registry())
    atexit.register(hooks.close_pipelines)
    return hooks


def record_failed(source: "DataSourceModule", index: int, error: "RecordError") -> None:
    """Say that a record cannot be read, for a source that is about to serve another one in its place; once for each record.

    In a worker process it is the installed hook plugins that hear of it, not what was registered by hand elsewhere.

    Raises:
        RecordError: ``error``, because a hook says so.
        ValueError: A hook answered what is no answer.
    """
    hooks = default_hooks()
    hooks.load_installed()
    answer: Any = hooks.call.datarax_record_failed(source=source, index=index, error=error)
    if answer not in _ANSWERS:
        raise ValueError(f"datarax_record_failed answers 'raise', 'substitute' or None, not {answer!r:.80}") from error
    if answer == "raise":
        raise error
