"""Plugins of named places, which no distribution provides: their files and modules imported, and the plugins in them.

A file is imported as Python would import it from its folder: that folder, or the one above its package, is put at the end of
``sys.path``, and the file's module is called by its stem. Processes that this one starts are given ``sys.path`` by
`multiprocessing`, so that pickles of its classes can be opened there.
"""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from traceback import extract_tb
from types import FunctionType, ModuleType
from typing import Any, Final

from datarax_core.errors import PluginConflictError, PluginDisabledError, PluginError, PluginLoadError, did_you_mean

from .contract import declared_name
from .discovery import NAMED, Environment, Fault, Installed
from .loading import in_words, leave_out, stdout_to_stderr
from .places import Place, given_places

_BASES: Final = {
    "datarax.sources": ("datarax_core.sources.source", "DataSourceModule"),
    "datarax.stages": ("datarax_core.registry.stages", "Stage"),
    "datarax.decoders": ("datarax_core.registry.decoders", "Decoder"),
}
"""For each group of classes, module and name of the class that its plugins derive from."""

_HOOKS: Final = "datarax.hooks"

_MARK: Final = "datarax_impl"
"""The attribute by which `hookimpl` marks a function."""

_LOOKED_FOR: Final = "public classes derived from DataSourceModule, Stage or Decoder, and functions marked @hookimpl"

_importing = threading.local()
"""The places that a thread is importing, which look up plugins themselves."""


def add_named(environment: Environment, *, disabled: Collection[str], allowed: Collection[str] | None) -> None:
    """Add the plugins of all places that are named, and a fault for each place that is switched off or fails to import.

    Args:
        environment: Where to add them.
        disabled: Names, distributions and places that are switched off, or ``all``; such a place is not imported.
        allowed: The places, names and distributions that may be used; a place that is not among them is not imported.

    Raises:
        PluginNotFoundError: A word names nothing.
        PluginConflictError: The module of a file would have the name of another one.
        PluginLoadError: The code of a file fails, and the process is strict.
    """
    there: dict[str, list[Installed]] = {}
    for place in given_places():
        if place in _now_importing():
            continue
        environment.homes |= _words_for(place)
        if reason := _disabled_by(place, disabled, allowed):
            error: PluginError = PluginDisabledError("plugin", place.word, f"{place} is disabled {reason}")
            environment.faults.append(Fault(str(place), place.home, error, tuple(place.declared_names())))
            continue
        try:
            found = plugins_of(place)
        except PluginLoadError as failed:
            environment.faults.append(Fault(str(place), place.home, failed, tuple(place.declared_names())))
            leave_out(failed, "what it has is missing")
            continue
        for group, name, target, loaded in found:
            entry = Installed(name, place.home, "", target, place=str(place))
            if group not in there:
                there[group] = environment.entries(group)
            others = (other for other in there[group] if other.name == name)
            if not any(environment.loaded(other, group) is loaded for other in others):  # installed, or named before
                environment.add(group, entry, loaded)
                there[group].append(entry)
                NAMED.setdefault(entry.package, entry)


def plugins_of(place: Place) -> list[tuple[str, str, str, object]]:
    """Return (group, name, target, object) of each plugin of a place, which is imported.

    Raises:
        PluginNotFoundError: It names no file or module, or there is no plugin.
        PluginConflictError: The module of the file would have the name of another one.
        PluginLoadError: Its code fails.
    """
    place.check()
    _now_importing().add(place)
    try:
        module = _imported(place)
    finally:
        _now_importing().discard(place)
    found = list(_one(module, place) if place.attribute else plugins_in(module))
    if not found:
        others = sorted(
            {name for name, value in vars(module).items() if group_of(value) and value.__module__ != module.__name__}
        )
        imported = (
            f" ({', '.join(others)} {'is' if len(others) == 1 else 'are'} imported there; name where they are defined)"
        )
        raise place.wrong(
            f"no plugin is defined in {_title(module)}{imported if others else ''}; looked for {_LOOKED_FOR}"
        )
    return found


# -- who may be imported ---------------------------------------------------------------------------------------------------


def _disabled_by(place: Place, disabled: Collection[str], allowed: Collection[str] | None) -> str:
    """Return why a place must not be imported; empty if it may be."""
    own = _words_for(place)
    if matches := sorted(word for word in disabled if word == "all" or word in own):
        return f"by DATARAX_DISABLE_PLUGINS={','.join(matches)}; take that out of the variable to use it"
    if allowed is None or own & set(allowed):
        return ""
    return f"by the allowlist of this process; add {place.home!r} to `allow` to use it"


def _words_for(place: Place) -> set[str]:
    return {place.word, place.home, place.file or place.home}


def _now_importing() -> set[Place]:
    places: set[Place] | None = getattr(_importing, "places", None)
    if places is None:
        places = _importing.places = set()
    return places


# -- imports ---------------------------------------------------------------------------------------------------------------


def _imported(place: Place) -> ModuleType:
    """Return the module of a place, imported; what it prints goes to stderr."""
    if (main := _main_script(place)) is not None:
        return main
    name = _module_on_path(place)
    try:
        with stdout_to_stderr:
            module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    # The boundary to code of others, which fails in any way, also by exceptions that are no Exception.
    except BaseException as cause:
        if place.file is None and isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
            where = "on the path of this Python, nor in the working folder"
            raise place.wrong(f"there is no module {cause.name!r} {where}; install it, or name its file") from None
        remedy = f"correct it, or leave {place.word} out"
        raise PluginLoadError(
            "plugin", place.word, f"{place} failed to import: {_failure(place, cause)}; {remedy}"
        ) from cause
    if place.file is not None and not _is_file(module, place.file):
        raise _taken(place, name, _title(module))
    return module


def _main_script(place: Place) -> ModuleType | None:
    """Return the main script, if the place is its file: it is not run again."""
    main = sys.modules["__main__"]
    return main if place.file is not None and _is_file(main, place.file) and main.__spec__ is None else None


def _module_on_path(place: Place) -> str:
    """Return the name by which a place is imported; its folder is put at the end of ``sys.path`` if it is not found there."""
    if place.file is None:
        name, top = place.home, Path(place.folder, place.home.partition(".")[0])
        is_beside = top.with_suffix(".py").is_file() or (top / "__init__.py").is_file()
        if is_beside and top.name not in sys.modules and importlib.util.find_spec(top.name) is None:
            _put_on_path(place.folder)
        return name
    file = Path(place.file)
    folder, name = file.parent, file.stem
    if name == "__init__":
        folder, name = folder.parent, folder.name
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    if name in sys.modules:
        if not _is_file(sys.modules[name], place.file):
            raise _taken(place, name, _title(sys.modules[name]))
        return name
    top = folder / name.partition(".")[0]
    spec = importlib.util.find_spec(top.name) if top.name not in sys.modules else sys.modules[top.name].__spec__
    if spec is None or spec.origin is None:  # no module, or a folder without __init__.py, before which a file is found
        _put_on_path(str(folder))
    elif not any(_is_same(spec.origin, own) for own in (top.with_suffix(".py"), top / "__init__.py")):
        raise _taken(place, top.name, spec.origin)
    return name


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()


def _taken(place: Place, name: str, other: str) -> PluginConflictError:
    return PluginConflictError(
        "plugin",
        place.word,
        f"{place}: its module would be called {name!r}, by which Python imports another one ({other}); rename the file",
    )


def _failure(place: Place, cause: BaseException) -> str:
    """Return file, line and reason of a failed import: the innermost line of the place's own file, or else the last one."""
    if isinstance(cause, SyntaxError) and cause.filename:
        return f"{cause.filename}, line {cause.lineno}: {type(cause).__name__}: {cause.msg}"
    frames = [frame for frame in extract_tb(cause.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if place.file is not None and _is_same(frame.filename, place.file)]
    outside = [frame for frame in frames if "importlib" not in frame.filename]
    for frame in (own or outside)[-1:]:
        return f"{frame.filename}, line {frame.lineno}: {in_words(cause)}"
    return in_words(cause)


def _title(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or f"the module {module.__name__}"


def _is_file(module: ModuleType, path: str) -> bool:
    return _is_same(getattr(module, "__file__", None), path)


def _is_same(path: str | None, other: str | Path) -> bool:
    try:
        return path is not None and Path(path).samefile(other)
    except OSError:  # one of them is not there: built in, or "<string>"
        return False


# -- plugins of a module ---------------------------------------------------------------------------------------------------


def plugins_in(module: ModuleType) -> Iterator[tuple[str, str, str, object]]:
    """Yield the plugins that a module defines: classes, and the module itself if it has hooks."""
    own = {
        id(value): (name, value)
        for name, value in reversed(vars(module).items())  # of two names for one class the first
        if group_of(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    for name, value in reversed(own.values()):
        declared = declared_name(value)
        if declared is None and any(other is not value and issubclass(other, value) for _, other in own.values()):
            continue  # a base of others
        yield group_of(value), declared or name, f"{module.__name__}:{name}", value
    if has_hooks(vars(module).values(), module.__name__, also_unmarked=not own):
        yield _HOOKS, module.__name__.rpartition(".")[2], module.__name__, module


def _one(module: ModuleType, place: Place) -> Iterator[tuple[str, str, str, object]]:
    """Yield the plugin that a word names behind its colon.

    Raises:
        PluginNotFoundError: There is nothing of that name, or it is no plugin.
    """
    name = place.attribute
    if not hasattr(module, name):
        raise place.wrong(f"{_title(module)} has no {name!r}{did_you_mean(name, vars(module))}")
    value = getattr(module, name)
    if group := group_of(value):
        yield group, declared_name(value) or name, f"{module.__name__}:{name}", value
    elif has_hooks([getattr(type(value), each, None) for each in dir(value)]) or (
        isinstance(value, type) and has_hooks(vars(value).values())
    ):
        yield _HOOKS, name, f"{module.__name__}:{name}", value
    else:
        what = f"the class {name} derives" if isinstance(value, type) else f"{name} is {value!r:.80}, which derives"
        raise place.wrong(
            f"{what} from none of DataSourceModule, Stage and Decoder, and has no functions marked @hookimpl"
        )


def group_of(value: Any) -> str:
    """Return the group of a class of plugins; "" for anything else. Bases that nobody has imported have no subclasses."""
    for group, (module, name) in _BASES.items():
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and isinstance(value, type) and issubclass(value, base) and value is not base:
            return group
    return ""


def has_hooks(values: Iterable[Any], module: str | None = None, *, also_unmarked: bool = False) -> bool:
    """Return whether functions are marked as hooks, or only called like hooks; those of a module are defined in it."""
    functions = [value for value in values if isinstance(value, FunctionType) and module in (None, value.__module__)]
    return any(hasattr(each, _MARK) or (also_unmarked and each.__name__.startswith("datarax_")) for each in functions)
