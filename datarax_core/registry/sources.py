"""Registry of sources: the sources that a config can name; the registry and hooks that a process has by default."""

import atexit
import inspect
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from datarax_core.extensions.catalog import Catalog, EntryPointGroup
from datarax_core.extensions.contract import require_contract, type_problems
from datarax_core.extensions.defaults import made_once
from datarax_core.extensions.known import owners
from datarax_core.extensions.plugin_registry import PluginInfo, PluginRegistry

if TYPE_CHECKING:  # listing the installed sources loads neither pydantic, pluggy nor JAX
    from datarax_core.config.models import SourceConfig
    from datarax_core.errors import RecordError
    from datarax_core.extensions.hooks import Hooks
    from datarax_core.sources.source import DataSourceModule

    from .decoders import DecoderRegistry
    from .stages import StageRegistry

SourceInfo: TypeAlias = PluginInfo
"""Facts about a source that need no import."""


class SourceRegistry(PluginRegistry["type[DataSourceModule]"]):
    """The sources that a config can name."""

    group = EntryPointGroup(name="datarax.sources", noun="source", example="memory", first_party=owners("source"))

    def config_type(self, name: str) -> "type[SourceConfig]":
        """Return the config class of the source behind ``name``. Raises the errors of `get`."""
        config_class: type[SourceConfig] = self.get(name).config_class
        return config_class

    def json_schema(
        self, *, stage_registry: "StageRegistry | None" = None, decoder_registry: "DecoderRegistry | None" = None
    ) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of pipeline configs, with every source, stage and decoder that can be used.

        Installed stages and decoders are used unless registries are given. Imports all plugins; warns of each that cannot be
        used, and leaves it out.
        """
        # Late, because pipeline_config imports pydantic, which listing does not need, and this module.
        from .pipeline_config import pipeline_schema  # noqa: PLC0415

        schema, notes = pipeline_schema(self, stage_registry, decoder_registry)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return schema

    def check(self, loaded: object, name: str | None, origin: str) -> "type[DataSourceModule]":
        """Return ``loaded`` if it is a source class whose config has the name of its entry point.

        Raises:
            PluginContractError: It is not; lists everything that is missing, with the code to write.
        """
        if isinstance(loaded, type):
            problems = [*_base_problems(loaded), *_config_problems(loaded, name), *_from_config_problems(loaded)]
        else:
            problems = [f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the source class instead"]
        require_contract("source", loaded, name, origin, problems)
        return cast("type[DataSourceModule]", loaded)


def _base_problems(loaded: type) -> Iterator[str]:
    from datarax_core.sources.source import DataSourceModule  # noqa: PLC0415 - JAX, which the plugin's import has loaded

    if not issubclass(loaded, DataSourceModule):
        yield f"it does not derive from DataSourceModule; write `class {loaded.__name__}(DataSourceModule):`"


def _config_problems(loaded: type, name: str | None) -> Iterator[str]:
    from datarax_core.config.models import SourceConfig  # noqa: PLC0415 - pydantic, which listing does not need

    config: Any = getattr(loaded, "config_class", None)
    if config is None:
        yield "it has no config_class; write `config_class = YourConfig`, derived from datarax_core.config.SourceConfig"
    elif not (isinstance(config, type) and issubclass(config, SourceConfig)):
        yield f"its config_class {config!r} does not derive from datarax_core.config.SourceConfig; let it"
    else:
        yield from type_problems(config, name)


def _from_config_problems(loaded: type) -> Iterator[str]:
    from_config = getattr(loaded, "from_config", None)
    remedy = "write `@classmethod def from_config(cls, config, build)`"
    if from_config is None:
        yield f"it has no from_config; {remedy}"
    elif not inspect.ismethod(from_config):
        yield f"its from_config is no classmethod; {remedy}"
    else:
        try:
            inspect.signature(from_config).bind("config", "build")
        except TypeError as cause:
            yield f"its from_config cannot be called with (config, build): {cause}; {remedy}"
        else:
            yield from _constructor_problems(loaded, from_config)


def _constructor_problems(loaded: type, from_config: Any) -> Iterator[str]:
    """Yield the problem of a class that leaves `from_config` to its base, whose call its constructor does not take."""
    from datarax_core.sources.source import DataSourceModule  # noqa: PLC0415 - JAX, which the plugin's import has loaded

    if from_config.__func__ is not vars(DataSourceModule)["from_config"].__func__:
        return
    try:
        inspect.signature(loaded.__init__).bind("self", "config", rngs=None)  # type: ignore[misc]  # of a class that is loaded
    except TypeError as cause:
        yield (
            f"its __init__ cannot be called with (config, rngs=...): {cause}; write `def __init__(self, config, *, rngs=None, "
            "name=None)` and pass rngs and name on, or write a from_config that calls it as it is"
        )


# -- defaults of this process ----------------------------------------------------------------------------------------------


@made_once
def default_registry() -> SourceRegistry:
    """Return the registry that is used if none is given: the installed sources, read once, and the sources that hooks add.

    A name that no entry point has may be one that a hook plugin registers; hook plugins are loaded then.
    """
    catalog = Catalog.from_environment(SourceRegistry.group)
    return SourceRegistry(catalog, on_unknown=lambda: default_hooks().load_installed())


def given_or_default(registry: SourceRegistry | None) -> SourceRegistry:
    """Return the registry that a caller gave, or `default_registry` for None.

    Raises:
        TypeError: ``registry`` is no registry.
    """
    if not isinstance(registry, SourceRegistry | None):
        raise TypeError(f"registry is a SourceRegistry, or None for what is installed, not {registry!r:.80}")
    return default_registry() if registry is None else registry


@made_once
def default_hooks() -> "Hooks":
    """Return the hooks of this process, which every pipeline calls."""
    from datarax_core.extensions.hooks import Hooks  # noqa: PLC0415 - pluggy, which listing does not need

    hooks = Hooks(default_registry())
    atexit.register(hooks.close_pipelines)
    return hooks


_ANSWERS: Final = ("raise", "substitute", None)


def record_failed(source: "DataSourceModule", index: int, error: "RecordError") -> None:
    """Call the hooks for a record that cannot be read, from a source that is about to serve another record in its place.

    A source calls it once for each such record. In a worker process only installed hook plugins are called.

    Raises:
        RecordError: ``error``, because a hook answered "raise".
        ValueError: A hook gave no valid answer.
    """
    hooks = default_hooks()
    hooks.load_installed()
    answer: Any = hooks.call.datarax_record_failed(source=source, index=index, error=error)
    if answer not in _ANSWERS:
        raise ValueError(f"datarax_record_failed answers 'raise', 'substitute' or None, not {answer!r:.80}") from error
    if answer == "raise":
        raise error
