"""Contract of plugin classes: the checks that are common to the registries of sources, stages and decoders."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from datarax_core.errors import PluginContractError

from .discovery import plugins_by_package

API_VERSION: Final = 1
"""Kept so that plugins which import it load. Nothing reads it: a plugin's ``Requires-Dist`` says which cores it works with."""

BY_HAND: Final = "registered by hand"
"""Stands in messages for distribution and version of a plugin that no distribution provides."""


def require_contract(noun: str, loaded: object, name: str | None, origin: str, problems: Iterable[str]) -> None:
    """Raise one error that lists all ``problems``, if there are any.

    Args:
        noun: Noun for the plugin, such as "source".
        loaded: The object that was loaded or registered.
        name: Name of its entry point, if it has one.
        origin: Its distribution and version, or `BY_HAND`.
        problems: Sentences, each with a problem and the code to write instead.

    Raises:
        PluginContractError: There is a problem.
    """
    if listed := "; ".join(problems):
        label = repr(name) if name else getattr(loaded, "__qualname__", repr(loaded))
        raise PluginContractError(noun, name or label, f"{noun} {label} ({origin}) is no {noun}: {listed}")


def contract_fault(noun: str, plugin: Any, problem: str, name: str | None = None) -> PluginContractError:
    """Return the error for a fault that only shows when a plugin is used.

    Args:
        noun: Noun for the plugin, such as "source".
        plugin: The object, class or function at fault; its class and its distribution are named.
        problem: What it does wrong, and the code to write instead.
        name: Its registered name, if it is known.
    """
    label = f"{noun} {name!r}" if name else noun
    origin = origin_of(plugin)
    return PluginContractError(
        noun, name or _class_name(plugin), f"{label}{f' ({origin})' if origin else ''}: {_class_name(plugin)}{problem}"
    )


def origin_of(plugin: Any) -> str | None:
    """Return distribution and version of the plugin whose package defines an object, class or function; None if none does."""
    module = plugin.__module__ if isinstance(plugin, type) else getattr(plugin, "__module__", type(plugin).__module__)
    entry = plugins_by_package().get(str(module).partition(".")[0])
    return None if entry is None else entry.origin


def _class_name(plugin: Any) -> str:
    return str(getattr(plugin, "__qualname__", type(plugin).__qualname__))


def config_plugin_problems(loaded: object, base: Any, name: str | None, methods: tuple[str, str]) -> Iterator[str]:
    """Yield the problems of a plugin class that is its own config: a stage or a decoder.

    Args:
        loaded: The object that was loaded or registered.
        base: The class that it must derive from.
        name: Name of its entry point, if it has one.
        methods: Methods of ``base`` of which it must define at least one.
    """
    noun, own = base.__name__.lower(), cast("Any", loaded)
    if not isinstance(loaded, type):
        yield f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the {noun} class instead"
    elif not issubclass(loaded, base):
        yield f"it does not derive from {base.__name__}; write `class {loaded.__name__}({base.__name__}):`"
    else:
        yield from type_problems(own, name)
        if all(getattr(loaded, method) is getattr(base, method) for method in methods):
            yield f"it defines neither {methods[0]}() nor {methods[1]}(); write one of them"


def type_problems(config: Any, name: str | None) -> Iterator[str]:
    """Yield the problem of a config class whose ``type`` has no default, or another one than its registered name."""
    if not config.__pydantic_complete__:
        yield from _annotation_problems(config)
        return
    default = config.model_fields["type"].default
    wanted = name or "your_name"
    remedy = f'write `type: Literal["{wanted}"] = "{wanted}"` in it'
    if not isinstance(default, str) or not default:
        yield f"{config.__name__}.type has no default; {remedy}"
    elif name is not None and default != name:
        yield f"{config.__name__}.type defaults to {default!r}, but it is registered by the name {name!r}; {remedy}"


def _annotation_problems(config: Any) -> Iterator[str]:
    """Yield the problem of a config class with an annotation that names an unknown type, now that its module is imported."""
    try:
        config.model_rebuild()
    except (NameError, AttributeError) as unknown:
        reason = f"an annotation of {config.__name__} does not resolve: {str(unknown).splitlines()[0]}"
        yield f"{reason}; import that name in {config.__module__}, outside of `if TYPE_CHECKING:`"


def declared_name(plugin: object) -> str | None:
    """Return the registered name that a class declares: the default of ``type`` in it or in its config; None without one."""
    fields = getattr(getattr(plugin, "config_class", plugin), "model_fields", None)
    default = getattr(fields.get("type"), "default", None) if isinstance(fields, dict) else None
    return default if isinstance(default, str) else None
