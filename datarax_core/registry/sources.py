"""Sources by name: the registry, what a source class must have, and what is installed in this process."""

import atexit
import inspect
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from datarax_core.extensions.catalog import Kind
from datarax_core.extensions.contract import _name_problems, _refuse
from datarax_core.extensions.listing import PluginRegistry

if TYPE_CHECKING:
    from datarax_core.config.models import SourceConfig
    from datarax_core.errors import RecordError
    from datarax_core.extensions.hooks import Hooks
    from datarax_core.sources.source import DataSourceModule

    from .decoders import DecoderRegistry
    from .stages import StageRegistry


def check_source(loaded: object, name: str | None, origin: str) -> "type[DataSourceModule]":
    """``loaded``, if it is a source for ``name`` (None takes the name that its config gives).

    Raises:
        PluginContractError: All that is missing, and what to write.
    """
    from datarax_core.sources.source import DataSourceModule  # noqa: PLC0415 - imports JAX; the plugin's own import has paid for it by now

    if not isinstance(loaded, type):
        problems = [f"it is {type(loaded).__name__} {loaded!r:.80}, not a class; name the source class instead"]
    else:
        checks = _base_problems(loaded, DataSourceModule), _config_problems(loaded, name), _build_problems(loaded)
        problems = [problem for check in checks for problem in check]
    _refuse("source", loaded, name, origin, problems)
    return cast("type[DataSourceModule]", loaded)


def _base_problems(loaded: type, base: type) -> Iterator[str]:
    if not issubclass(loaded, base):
        yield f"it does not derive from DataSourceModule; write `class {loaded.__name__}(DataSourceModule):`"


def _config_problems(loaded: type, name: str | None) -> Iterator[str]:
    from datarax_core.config.models import SourceConfig  # noqa: PLC0415 - config imports registry, which imports this module

    config: Any = getattr(loaded, "config_class", None)
    if config is None:
        yield "it has no config_class; write `config_class = YourConfig`, derived from datarax_core.config.SourceConfig"
    elif not (isinstance(config, type) and issubclass(config, SourceConfig)):
        yield f"its config_class {config!r} does not derive from datarax_core.config.SourceConfig; let it"
    else:
        yield from _name_problems(config.__name__, config.model_fields["type"].default, name)


def _build_problems(loaded: type) -> Iterator[str]:
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


_FIRST_PARTY: Final[Mapping[str, str]] = {
    "arrayrecord": "datarax-arrayrecord",
    "memory": "datarax-memory",
    "mix": "datarax-mix",
    "tfds": "datarax-tfds",
    "tfds_eager": "datarax-tfds",
    "tfds_streaming": "datarax-tfds",
}


class SourceRegistry(PluginRegistry["type[DataSourceModule]"]):
    """The sources that a config can name; see `PluginRegistry`."""

    kind = Kind(word="source", group="datarax.sources", homes=_FIRST_PARTY)
    _example = "memory"
    _named_in = "its config"

    def config_type(self, name: str) -> "type[SourceConfig]":
        """The config class of the source behind ``name``; raises what `get` raises."""
        config_class: type[SourceConfig] = self.get(name).config_class
        return config_class

    def json_schema(
        self, *, stage_registry: "StageRegistry | None" = None, decoder_registry: "DecoderRegistry | None" = None
    ) -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of pipeline configs, with every source, stage and decoder that can be used here.

        Stages and decoders are those that are installed, unless registries are given. Imports them all; what cannot be used is
        left out, and warned of.
        """
        from .pipeline_config import pipeline_schema  # noqa: PLC0415 - pydantic, which listing does not need

        schema, notes = pipeline_schema(self, stage_registry, decoder_registry)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return schema

    def _checked(self, loaded: object, name: str | None, origin: str) -> "type[DataSourceModule]":
        return check_source(loaded, name, origin)

    def _name_of(self, plugin: "type[DataSourceModule]") -> str:
        name: str = plugin.config_class.model_fields["type"].default
        return name


class _InstalledSources(SourceRegistry):
    """What is installed; a name that no entry point has may be one that a hook plugin registers, and these are loaded then."""

    def _found(self, name: str) -> "type[DataSourceModule]":
        if not self._knows(name):
            default_hooks().load_installed()
        return super()._found(name)


@cache
def default_registry() -> SourceRegistry:
    """The registry that is used where none is given: the environment, read once in a process, and what hooks register."""
    return _InstalledSources.from_environment()


def given_or_default(registry: SourceRegistry | None) -> SourceRegistry:
    """The registry that a caller gave, or `default_registry`.

    Raises:
        TypeError: It is no registry.
    """
    if not isinstance(registry, SourceRegistry | None):
        raise TypeError(f"registry is a SourceRegistry, or None for what is installed, not {registry!r:.80}")
    return default_registry() if registry is None else registry


_ANSWERS: Final = ("raise", "substitute", None)


@cache
def default_hooks() -> "Hooks":
    """The hooks of this process, which every pipeline calls."""
    from datarax_core.extensions.hooks import Hooks  # noqa: PLC0415 - pluggy, which listing does not need

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
