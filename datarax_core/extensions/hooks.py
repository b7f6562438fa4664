"""Who listens: hook plugins, loaded one at a time when the first pipeline is built, and objects registered by hand."""

import functools
import inspect
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from weakref import WeakValueDictionary

import pluggy

from datarax_core.config.models import SourceConfig
from datarax_core.errors import (
    PluginConflictError,
    PluginContractError,
    PluginDisabledError,
    PluginError,
    PluginLoadError,
    did_you_mean,
)

from .catalog import Kind
from .contract import BY_HAND, leave_out
from .hookspecs import PROJECT, Builder, HookSpecs, Registrar, ServingPipeline, hookimpl
from .listing import PluginListing

if TYPE_CHECKING:
    from datarax_core.sources.source import DataSourceModule


_MARK: Final = f"{PROJECT}_impl"

_PREFIX: Final = f"{PROJECT}_"

HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(spec).parameters)[1:]
    for name, spec in vars(HookSpecs).items()
    if name.startswith(_PREFIX)
}
"""The arguments of each hook."""

Function: TypeAlias = Callable[..., Any]


class Implementations:
    """What pluggy is given for a plugin, a module or an object: its functions, each with a note on whatever it raises.

    Raises:
        PluginContractError: It implements no hook, or one that does not exist or cannot be called; says all of it.
    """

    def __init__(self, plugin: object, name: str, origin: str) -> None:
        if isinstance(plugin, type):
            problems = [
                f"it is the class {plugin.__qualname__}; name a module, or an object such as {plugin.__name__}()"
            ]
            found = {}
        else:
            found = dict(_marked(plugin))
            problems = [*_unmarked(plugin), *(text for mark in found.items() for text in _problems(*mark))]
            if not found and not problems:
                problems = [f"it implements none; mark a function with @hookimpl, named {' or '.join(HOOKS)}"]
        if problems:
            raise PluginContractError(
                "hook plugin", name, f"hook plugin {name!r} ({origin}) cannot be used: {'; '.join(problems)}"
            )
        for attribute, (function, options) in found.items():
            hook = _hook_of(attribute, options)
            if hook in HOOKS:
                note = f"while {hook} of hook plugin {name!r} ({origin}) ran"
                noted = (_noted_wrapper if options["wrapper"] else _noted)(function, note)
                setattr(noted, _MARK, options)
                setattr(self, attribute, noted)


def _functions(plugin: object) -> Iterator[tuple[str, Function, Any]]:
    """(name, function as it is called, as it is stored) of each; properties are not asked."""
    for name in dir(plugin):
        stored = inspect.getattr_static(plugin, name, None)
        if isinstance(stored, FunctionType | MethodType | staticmethod | classmethod):
            yield name, getattr(plugin, name), stored


def _marked(plugin: object) -> Iterator[tuple[str, tuple[Function, dict[str, Any]]]]:
    for name, function, stored in _functions(plugin):
        options = getattr(stored, _MARK, None) or getattr(function, _MARK, None)
        if isinstance(options, dict):
            yield name, (function, {**_DEFAULTS, **options})


def _unmarked(plugin: object) -> Iterator[str]:
    for name, function, stored in _functions(plugin):
        if name.startswith(_PREFIX) and not (hasattr(stored, _MARK) or hasattr(function, _MARK)):
            yield f"{name} is not marked, and would never be called; write @hookimpl above it, or name it otherwise"


def _problems(attribute: str, implementation: tuple[Function, dict[str, Any]]) -> Iterator[str]:
    function, options = implementation
    hook = _hook_of(attribute, options)
    if hook not in HOOKS:
        if not options["optionalhook"]:
            yield f"there is no hook {hook!r}" + (did_you_mean(hook, HOOKS) or f" (hooks: {', '.join(HOOKS)})")
        return
    if options["hookwrapper"]:
        yield f"{hook} is an old-style hookwrapper; write @hookimpl(wrapper=True), and `return (yield)` in it"
    elif options["wrapper"] != inspect.isgeneratorfunction(function):
        remedy = "its code has no `yield`; take wrapper=True out" if options["wrapper"] else "write wrapper=True"
        yield f"{hook} is a wrapper if it yields, and only then: {remedy}"
    elif inspect.iscoroutinefunction(function):
        yield f"{hook} is a coroutine, which nobody would await; write `def`"
    if options["wrapper"] and hook == "datarax_register_sources":
        yield f"{hook} is called for each plugin by itself, and has nothing to wrap; take wrapper=True out"
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            yield f"{hook} has the argument `{parameter}`; name those you need, of {', '.join(HOOKS[hook])}, without defaults"
        elif parameter.name not in HOOKS[hook]:
            others = f" (it has {', '.join(HOOKS[hook])})"
            yield f"{hook} has no argument {parameter.name!r}" + (did_you_mean(parameter.name, HOOKS[hook]) or others)


def _hook_of(attribute: str, options: Mapping[str, Any]) -> str:
    return str(options["specname"] or attribute)


def _noted(function: Function, note: str) -> Function:
    @functools.wraps(function)
    def noted(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            error.add_note(note)
            raise

    return noted


def _noted_wrapper(function: Function, note: str) -> Function:
    @functools.wraps(function)
    def noted(*arguments: Any) -> Generator[None, Any, Any]:
        generator = function(*arguments)
        try:
            next(generator)
        except Exception as error:
            error.add_note(note)
            raise
        try:
            result = yield
        except BaseException as inner:  # noqa: BLE001 - whatever it is, it goes to the wrapper, and from there on
            return _outcome(functools.partial(generator.throw, inner), note, inner)
        return _outcome(functools.partial(generator.send, result), note)

    return noted


def _outcome(go_on: Callable[[], object], note: str, inner: BaseException | None = None) -> Any:
    """What a wrapper returns; the note is for errors of its own, not for one that passes through it."""
    try:
        go_on()
    except StopIteration as end:
        return end.value
    except Exception as error:
        if error is not inner:
            error.add_note(note)
        raise
    raise RuntimeError(f"a wrapper yields once, and this one did twice, {note}")


@hookimpl
def _plain() -> None: ...


_DEFAULTS: Final[Mapping[str, Any]] = getattr(_plain, _MARK)
"""The options of an implementation that gives none."""

_WORD: Final = "hook plugin"

_CORE: Final = "datarax-core"


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

    def __init__(self, sources: Registrar) -> None:
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
        self.open_pipelines: Final[WeakValueDictionary[int, ServingPipeline]] = WeakValueDictionary()
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
    def datarax_create_source(self, config: "SourceConfig", build: Builder) -> "DataSourceModule":
        return build.from_class(config)
