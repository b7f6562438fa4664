"""Descriptions of sources, stages and decoders: the fields of their configs, and an example."""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datarax_core._cli.examples import example_of, in_words
from datarax_core.config.base import FrozenConfig
from datarax_core.errors import PluginNotFoundError, did_you_mean
from datarax_core.extensions.catalog import Catalog
from datarax_core.extensions.known import homes
from datarax_core.extensions.plugin_registry import PluginRegistry
from datarax_core.registry.schema import model_schema
from datarax_core.registry.sources import SourceRegistry, default_hooks, default_registry

from .findings import CONFIGURABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigField:
    """Field of a config: its type in words, and its default as JSON holds it.

    ``default`` is None for a required field, and for one whose default ``is_computed`` from other fields.
    """

    name: str
    type: str
    required: bool
    default: Any
    description: str
    is_computed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Description of a plugin's config. ``parts`` holds the fields of nested configs, by the names of these configs.

    ``kind`` is the noun of its group of entry points, and ``finer_kind`` the one that only its class tells, such as "view".
    """

    kind: str
    finer_kind: str
    name: str
    distribution: str
    version: str
    target: str
    doc: str
    fields: list[ConfigField]
    parts: dict[str, list[ConfigField]]
    example: dict[str, Any] | None


def described(name: str) -> Iterator[Description]:
    """Yield the description of each source, stage and decoder called ``name``.

    Raises:
        PluginError: No usable plugin has the name.
    """
    registries = [registry.from_environment() for registry in CONFIGURABLE]
    having = [registry for registry in registries if name in registry.names() or name in registry.group.first_party]
    having = having or _with_hooks(name)
    if not having and name in (owners := homes([registry.group.noun for registry in registries])):
        raise PluginNotFoundError("plugin", name, f"plugin {name!r} is not installed; pip install {owners[name]}")
    faults = [] if having else Catalog.from_environment(SourceRegistry.group).faults
    for fault in faults:
        if name in fault.names:
            raise type(fault.error)("plugin", name, f"plugin {name!r}: {fault.error}")
    if not having:
        names = sorted({other for registry in registries for other in registry.names()})
        raise PluginNotFoundError(
            "plugin",
            name,
            f"no source, stage or decoder is called {name!r}{did_you_mean(name, names) or ';'} drx sources, drx stages and drx "
            f"decoders list what is installed{''.join(f'; {fault.error}' for fault in faults)}",
        )
    for registry in having:
        plugin = registry.get(name)
        config = registry.config_type(name) if isinstance(registry, SourceRegistry) else plugin
        info = next(info for info in registry.describe() if info.name == name and info.status == "ready")
        yield _description(registry.group.noun, name, plugin, config, info)


def _with_hooks(name: str) -> list[PluginRegistry[Any]]:
    """Return the registry of a source that a hook plugin registers, since no entry point has the name."""
    default_hooks().load_installed()
    return [default_registry()] if name in default_registry().names() else []


def _description(kind: str, name: str, plugin: type, config: type[FrozenConfig], info: Any) -> Description:
    schema = model_schema(config, name)
    inner = {key.removeprefix(f"{name}."): part for key, part in schema.get("$defs", {}).items()}
    own = list(dict.fromkeys(field for cls in config.__mro__ for field in vars(cls).get("__annotations__", ())))
    fields = sorted(_fields(schema), key=lambda field: own.index(field.name) if field.name in own else len(own))
    return Description(
        kind=kind,
        finer_kind=finer_kind(kind, plugin),
        name=name,
        distribution=info.distribution,
        version=info.version,
        target=info.target,
        doc=_prose(plugin.__doc__ or config.__doc__ or ""),
        fields=fields,
        parts={key: list(_fields(part)) for key, part in inner.items()},
        example=example_of(kind, name, config),
    )


def finer_kind(kind: str, plugin: type) -> str:
    """Return the noun for a plugin by its class: a view or a stream is a source, a host stage is a stage."""
    if kind == "source":
        from datarax_core.sources.source import DataSourceModule  # noqa: PLC0415 - JAX, which the plugin's import has loaded
        from datarax_core.sources.views.view import SourceView  # noqa: PLC0415

        if issubclass(plugin, SourceView):
            return "view"
        own: Any = plugin
        is_forward = own.get_records is DataSourceModule.get_records
        return "stream" if is_forward and own.get_batch is not DataSourceModule.get_batch else kind
    if kind == "stage" and (on_host := getattr(plugin, "on_host", False)):
        return "host stage" if on_host is True else "stage on either side"
    return kind


def _prose(docstring: str) -> str:
    """Return a docstring without its sections on arguments and errors, which concern Python code only."""
    return re.split(
        r"^(?:Args|Attributes|Raises|Returns):$", inspect.cleandoc(docstring), maxsplit=1, flags=re.MULTILINE
    )[0].strip()


def _fields(schema: dict[str, Any]) -> Iterator[ConfigField]:
    required = schema.get("required", ())
    for name, value in schema.get("properties", {}).items():
        if name != "type" or "const" not in value:
            yield ConfigField(
                name=name,
                type=in_words(value),
                required=name in required,
                default=value.get("default"),
                description=value.get("description", ""),
                is_computed=name not in required and "default" not in value,
            )


def as_text(described: Description) -> str:
    """Return the description as text for people: prose, tables of fields, and an example."""
    import yaml  # noqa: PLC0415 - only text needs it

    origin = f"{described.distribution} {described.version}".rstrip()
    blocks = [f"{described.finer_kind} {described.name}  ({origin}, {described.target})\n\n{described.doc}"]
    tables = {"fields": described.fields, **described.parts}
    blocks += [f"{title}\n{_table(fields)}" for title, fields in tables.items() if fields]
    if described.example is None:
        blocks.append("no example: its author gives none")
    else:
        example = yaml.safe_dump(described.example, sort_keys=False, default_flow_style=None, width=100)
        blocks.append(f"example\n{textwrap.indent(example.rstrip(), '  ')}")
    return "\n\n".join(blocks)


def _table(fields: list[ConfigField]) -> str:
    width = max(len(field.name) for field in fields)
    blank = " " * (width + 4)
    lines = []
    for field in fields:
        default = "computed" if field.is_computed else json.dumps(field.default)
        given = "required" if field.required else f"default {default}"
        lines += textwrap.wrap(
            f"{field.type}; {given}", 120, initial_indent=f"  {field.name:<{width}}  ", subsequent_indent=blank
        )
        lines += textwrap.wrap(field.description, 120, initial_indent=blank, subsequent_indent=blank)
    return "\n".join(lines)
