"""Hooks of a process: installed hook plugins, loaded with the first pipeline, and objects registered by hand."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

import pluggy

from datarax_core.background import renew_in_forks
from datarax_core.config.models import SourceConfig
from datarax_core.errors import (
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginError,
    PluginLoadError,
)

from .catalog import EntryPointGroup
from .contract import BY_HAND
from .hookspecs import PROJECT, Builder, HookSpecs, Registrar, ServingPipeline, hookimpl
from .implementations import NOUN, Implementations
from .loading import leave_out
from .plugin_registry import PluginRegistry

if TYPE_CHECKING:  # hooks are loaded without JAX
    from datarax_core.sources.source import DataSourceModule

_CORE: Final = "datarax-core"


class HookRegistry(PluginRegistry[object]):
    """The installed hook plugins: modules or objects. `Hooks` calls them; `Hooks.register` adds one by hand."""

    group = EntryPointGroup(name="datarax.hooks", noun=NOUN, example="progress", first_party={})

    def register_lazily(self, name: str, target: str) -> None:
        """Refuse: hooks are called by `Hooks`, to which plugins are added by `Hooks.register`.

        Raises:
            PluginContractError: Always.
        """
        remedy = "import it, and write `default_hooks().register(plugin)`, which calls its hooks in this process"
        raise PluginContractError(NOUN, name, f"{NOUN} {name!r} ({target}) is not registered here; {remedy}")

    def check(self, loaded: object, name: str | None, origin: str) -> object:
        """Return ``loaded`` if it implements hooks.

        Raises:
            PluginContractError: It does not, or it is registered here, where no name would be known for it.
        """
        if name is None:
            remedy = "write `default_hooks().register(plugin)`, which calls its hooks in this process"
            raise PluginContractError(NOUN, repr(loaded), f"{NOUN} {loaded!r:.80} is not registered here; {remedy}")
        Implementations(loaded, name, origin)
        return loaded


class Hooks:
    """Calls the hooks of all hook plugins; `HookSpecs` says when each hook is called.

    Args:
        sources: The registry to which ``datarax_register_sources`` adds.
    """

    def __init__(self, sources: Registrar) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        self._manager.register(_Core(), _CORE)
        self._implementations: dict[int, tuple[object, Implementations]] = {}
        self._origins: dict[str, str] = {}
        self._allowed: list[str] | None = None
        self._lock = threading.RLock()
        renew_in_forks(self)
        self._is_loaded = self._is_loading = False
        self.call: Final = cast(HookSpecs, self._manager.hook)
        """The hooks, to be called with arguments by name."""
        self.hears_batches = False
        """Whether a plugin implements ``datarax_batch_ready``; an attribute, since pipelines read it for each batch."""
        self.open_pipelines: Final[WeakValueDictionary[int, ServingPipeline]] = WeakValueDictionary()
        self._manager.hook.datarax_register_sources.call_historic(kwargs={"registry": sources})

    def renew_in_fork(self) -> None:
        """Make the lock anew."""
        self._lock = threading.RLock()

    def load_installed(self, *, allow: Iterable[str] | None = None) -> None:
        """Load the installed hook plugins, once; leave out each that cannot be used, with a `PluginWarning`.

        The first pipeline calls it. A service that allows only some plugins calls it before, with their names or distributions.

        Raises:
            RuntimeError: ``allow`` comes too late: the plugins are loaded.
            PluginError: ``DATARAX_STRICT_PLUGINS=1`` is set, and a plugin cannot be used.
        """
        if self._is_loaded and allow is None:
            return
        with self._lock:  # other threads wait for the first; a plugin that builds a pipeline on import re-enters
            if self._is_loaded and allow is not None:
                raise RuntimeError("hook plugins are loaded; allow some of them before the first pipeline is built")
            if self._is_loaded or self._is_loading:
                return
            self._is_loading = True
            try:
                allowed = None if allow is None or isinstance(allow, str) else list(allow)
                self._load(HookRegistry.from_environment(allow if allowed is None else allowed))
                self._allowed, self._is_loaded = allowed, True
            finally:
                self._is_loading = False

    def read_again(self) -> None:
        """Load hook plugins that are new in the environment of this moment, and leave out those that are gone.

        If none were loaded so far, none are. An allowlist goes on to hold, and what was registered by hand stays.
        """
        with self._lock:
            if self._is_loaded:
                registry = HookRegistry.from_environment(self._allowed)
                self._leave_out_gone(registry)
                self._load(registry)

    def register(self, plugin: object, name: str | None = None) -> None:
        """Have the hooks of a module or object called in this process; errors call it by ``name``.

        Raises:
            PluginContractError: It implements no hook, or one that does not exist or cannot be called.
            PluginConflictError: It is registered already, or another one of that name is.
        """
        own = getattr(plugin, "__name__", type(plugin).__name__)
        free = (f"{own} {number}" if number else own for number in range(len(self._implementations) + 1))
        self._add(plugin, name or next(other for other in free if not self._manager.has_plugin(other)), BY_HAND)

    def unregister(self, plugin: object) -> None:
        """Stop calling the hooks of ``plugin``.

        Raises:
            ValueError: It is not registered.
        """
        if id(plugin) not in self._implementations:
            raise ValueError(f"{plugin!r:.80} is not registered, and so cannot be unregistered")
        self._manager.unregister(self._implementations.pop(id(plugin))[1])
        self._note_hearers()

    @contextmanager
    def registered(self, plugin: object, name: str | None = None) -> Iterator[None]:
        """`register` a plugin for the time of a ``with`` block."""
        self.register(plugin, name)
        try:
            yield
        finally:
            self.unregister(plugin)

    def hears(self, hook: str) -> bool:
        """Return True if a plugin implements ``hook``; core's own implementation does not count."""
        return any(impl.plugin_name != _CORE for impl in getattr(self._manager.hook, hook).get_hookimpls())

    def implementers(self, hook: str) -> list[str]:
        """Return name and origin of each plugin that implements ``hook``, in the order in which they are called."""
        names = [impl.plugin_name for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls())]
        return [f"{NOUN} {name!r} ({self._origins[name]})" for name in names if name in self._origins]

    def close_pipelines(self) -> None:
        """Close all open pipelines, as at the end of the process; one that fails to close does not keep others open."""
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

    def _leave_out_gone(self, registry: HookRegistry) -> None:
        """Unregister the plugins of the environment that ``registry`` no longer has."""
        names = set(registry.names())
        for plugin, implementations in list(self._implementations.values()):
            name = self._manager.get_name(implementations) or ""
            if name not in names and self._origins[name] != BY_HAND:
                self.unregister(plugin)

    def _add(self, plugin: object, name: str, origin: str) -> None:
        implementations = Implementations(plugin, name, origin)
        if id(plugin) in self._implementations or self._manager.has_plugin(name):
            message = f"hook plugin {name!r} ({origin}) or one of its name is registered already; unregister that first"
            raise PluginConflictError(NOUN, name, message)
        try:
            self._manager.register(implementations, name)
        except Exception as cause:  # the boundary to third-party code: its datarax_register_sources runs here
            self._manager.unregister(implementations)
            if origin == BY_HAND:
                raise
            message = f"hook plugin {name!r} ({origin}) failed to register its sources: {type(cause).__name__}: {cause}"
            raise PluginLoadError(NOUN, name, message) from cause
        self._implementations[id(plugin)] = plugin, implementations
        self._origins[name] = origin
        self._note_hearers()

    def _note_hearers(self) -> None:
        self.hears_batches = self.hears("datarax_batch_ready")


class _Core:
    """Implementations of core itself."""

    @hookimpl(trylast=True)
    def datarax_create_source(self, config: SourceConfig, build: Builder) -> "DataSourceModule":
        """Return the source of the registered class, when no plugin made another."""
        return build.from_class(config)
