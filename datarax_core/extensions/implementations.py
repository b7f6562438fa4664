"""Implementations of hooks: the functions of a hook plugin, checked against the hooks and annotated for errors."""

import functools
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, Final, TypeAlias

from datarax_core.errors import PluginContractError, did_you_mean

from .hookspecs import PROJECT, HookSpecs, hookimpl

NOUN: Final = "hook plugin"

_MARK: Final = f"{PROJECT}_impl"
"""The attribute by which pluggy marks a function."""

_PREFIX: Final = f"{PROJECT}_"

HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(spec).parameters)[1:]
    for name, spec in vars(HookSpecs).items()
    if name.startswith(_PREFIX)
}
"""The names of the arguments of each hook."""

Function: TypeAlias = Callable[..., Any]


class Implementations:
    """Hook functions of a plugin (a module or an object), as pluggy registers them; each notes its plugin on errors it raises.

    Raises:
        PluginContractError: The plugin implements no hook, or one that does not exist or cannot be called; lists all problems.
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
            raise PluginContractError(NOUN, name, f"{NOUN} {name!r} ({origin}) cannot be used: {'; '.join(problems)}")
        for attribute, (function, options) in found.items():
            hook = _hook_of(attribute, options)
            if hook in HOOKS:
                note = f"while {hook} of hook plugin {name!r} ({origin}) ran"
                noted = (_noted_wrapper if options["wrapper"] else _noted)(function, note)
                setattr(noted, _MARK, options)
                setattr(self, attribute, noted)


@hookimpl
def _unadorned() -> None: ...


_DEFAULTS: Final[Mapping[str, Any]] = getattr(_unadorned, _MARK)
"""The options of an implementation that sets none."""


def _functions(plugin: object) -> Iterator[tuple[str, Function, Any]]:
    """Yield (name, function as it is called, function as it is stored); properties are not evaluated."""
    for name in dir(plugin):
        stored = inspect.getattr_static(plugin, name, None)
        if isinstance(stored, FunctionType | MethodType | staticmethod | classmethod):
            yield name, getattr(plugin, name), stored


def _marked(plugin: object) -> Iterator[tuple[str, tuple[Function, dict[str, Any]]]]:
    """Yield (name, (function, options)) of the functions that are marked as hook implementations."""
    for name, function, stored in _functions(plugin):
        options = getattr(stored, _MARK, None) or getattr(function, _MARK, None)
        if isinstance(options, dict):
            yield name, (function, {**_DEFAULTS, **options})


def _unmarked(plugin: object) -> Iterator[str]:
    """Yield a problem for each function that has a hook's name, or looks like one, and no mark."""
    for name, function, stored in _functions(plugin):
        if name.startswith(_PREFIX) and not (hasattr(stored, _MARK) or hasattr(function, _MARK)):
            yield f"{name} is not marked, and would never be called; write @hookimpl above it, or name it otherwise"


def _problems(attribute: str, implementation: tuple[Function, dict[str, Any]]) -> Iterator[str]:
    """Yield the problems of one marked function."""
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
    """Return the name of the hook that a marked function implements."""
    return str(options["specname"] or attribute)


def _noted(function: Function, note: str) -> Function:
    """Return ``function`` with a note added to errors that it raises."""

    @functools.wraps(function)
    def noted(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except StopIteration as error:
            raise _no_end(note) from error
        except Exception as error:
            error.add_note(note)
            raise

    return noted


def _no_end(note: str) -> RuntimeError:
    """Return the error in place of a hook's StopIteration, which would end the loop whose batch or epoch was announced."""
    return RuntimeError(f"a hook raised StopIteration, which ends no loop, {note}")


def _noted_wrapper(function: Function, note: str) -> Function:
    """Return the wrapper ``function`` with a note added to errors of its own, not to errors that pass through it."""

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
        except BaseException as inner:  # noqa: BLE001 - the wrapper gets every error, and decides whether it goes on
            return _returned(functools.partial(generator.throw, inner), note, inner)
        return _returned(functools.partial(generator.send, result), note)

    return noted


def _returned(resume: Callable[[], object], note: str, inner: BaseException | None = None) -> Any:
    """Resume a wrapper and return its result. Errors other than ``inner`` are its own, and get the note."""
    try:
        resume()
    except StopIteration as end:
        return end.value
    except Exception as error:
        if error is not inner:
            error.add_note(note)
        raise
    raise RuntimeError(f"a wrapper yields once, and this one did twice, {note}")
