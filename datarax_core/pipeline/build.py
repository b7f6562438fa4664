"""Sources built from configs: names resolved by the registry, random streams derived from one seed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from datarax_core.config.base import FrozenConfig
from datarax_core.config.lines import Origin
from datarax_core.config.messages import plugin_cause, problems
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError, DataraxError, PluginContractError
from datarax_core.extensions.contract import contract_fault
from datarax_core.order.numbers import seed_number
from datarax_core.registry.pipeline_config import AnySource, PipelineConfig
from datarax_core.registry.sources import SourceRegistry, default_hooks, given_or_default
from datarax_core.routes.definition import BatchRule
from datarax_core.routes.soundness import require_built
from datarax_core.sources.source import DataSourceModule
from datarax_core.stages.build import PlacedStageError

_ANY_SOURCE: TypeAdapter[SourceConfig] = TypeAdapter(AnySource)


def build_source(
    config: SourceConfig | Mapping[str, Any], registry: SourceRegistry | None = None, *, seed: int = 0
) -> DataSourceModule:
    """Build the source that a config describes.

    Args:
        config: A source config, or a mapping such as a config file has under ``source``.
        registry: Where names of sources are looked up; None is the registry of installed plugins.
        seed: Of the random streams of the source, and of the sources that the config nests.

    Raises:
        ConfigError: The mapping is invalid; names every problem with its place.
        PluginError: The source that the config names cannot be used; the subclass says why.
    """
    registry, seed = given_or_default(registry), seed_number(seed)
    try:
        valid: SourceConfig = _ANY_SOURCE.validate_python(config, context={"registry": registry})
    except ValidationError as invalid:
        invalid.__cause__ = plugin_cause(invalid)
        raise ConfigError.of(problems(invalid, config, Origin("source"))) from invalid
    return SourceBuilder(registry, seed)(valid)


def build_source_of(
    config: PipelineConfig, registry: SourceRegistry | None = None, *, source: SourceConfig | None = None
) -> DataSourceModule:
    """Build the source of a pipeline's config; an error says which source in it could not be built, and where that stands.

    Args:
        config: The pipeline's config.
        registry: Where names of sources are looked up; None is the registry of installed plugins.
        source: A source config to build in place of ``config.source``, of which it is a copy.

    Raises:
        ConfigError: The constructor of a source refused the config by a ``ValueError``.
        PluginError: The source that the config names cannot be used; the subclass says why.
    """
    builder, top = SourceBuilder(given_or_default(registry), config.seed), source or config.source
    try:
        return builder(top)
    except Exception as error:
        place = ("source", *(_place_of(builder.failed, top) or ()))
        if isinstance(error, ValueError) and not isinstance(error, DataraxError):
            raise ConfigError.of([config.problem(place, str(error))]) from error
        error.add_note(f"while {config.spot(place)} was built")
        raise


def require_batch_size(config: PipelineConfig, source: DataSourceModule) -> None:
    """Raise if a config has a batch size and its source decides the sizes of its batches, or neither.

    Raises:
        ConfigError: Says which, with the place of ``batch_size``.
    """
    try:
        BatchRule(config.batch_size).over(source)
    except ValueError as refused:
        raise ConfigError.of([config.problem(("batch_size",), str(refused))]) from refused


def _place_of(wanted: SourceConfig | None, value: Any) -> tuple[int | str, ...] | None:
    """Return the location of the config ``wanted`` in ``value``; None if it is not there."""
    if value is wanted:
        return ()
    inner: Any = vars(value).items() if isinstance(value, FrozenConfig) else ()
    inner = value.items() if isinstance(value, Mapping) else inner
    inner = enumerate(value) if isinstance(value, list | tuple) else inner
    for key, item in inner:
        if (place := _place_of(wanted, item)) is not None:
            return (key, *place)
    return None


class SourceBuilder:
    """Builder of a source and, through it, of the sources that its config nests.

    Each source finds its random streams in `rngs`. The outermost source gets those of ``nnx.Rngs(seed)``, so that a config
    and the same source built in Python serve one stream. The others get streams folded from the seed and their place in
    the config.
    """

    def __init__(self, registry: SourceRegistry, seed: int) -> None:
        self.rngs = nnx.Rngs(seed)
        self._registry = registry
        self._hooks = default_hooks()
        self._hooks.load_installed()
        self._seed = seed
        self._built = 0
        self.failed: SourceConfig | None = None
        """The innermost config whose source could not be built, while its error is on its way out."""

    def __call__(self, config: SourceConfig) -> DataSourceModule:
        """Build the source of one config with the hook ``datarax_create_source``, after the sources that the config nests.

        Raises:
            PluginContractError: An implementation of the hook, or the class, returned something that is no source.
        """
        outer = self.rngs
        if self._built:
            self.rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(self._seed), self._built))
        self._built += 1
        is_built = False
        try:
            source = self._hooks.call.datarax_create_source(config=config, build=self)
            is_built = True
        finally:
            self.rngs = outer
            self.failed = None if is_built else self.failed or config
        if not isinstance(source, DataSourceModule):
            makers = " or ".join(self._hooks.implementers("datarax_create_source"))
            raise PluginContractError(
                "hook plugin",
                config.type,
                f"datarax_create_source of {makers} gave {source!r:.80} for the source {config.type!r}; an implementation "
                "returns a source or None, and a wrapper the result of its `yield`: write `return (yield)`",
            )
        return source

    def from_class(self, config: SourceConfig) -> DataSourceModule:
        """Build the source with the class that the config's ``type`` names; hooks may build another source instead."""
        cls = self._registry.get(config.type)
        source: Any = cls.from_config(config, self)
        if not isinstance(source, DataSourceModule):
            problem = f".from_config() returned {source!r:.60}, not a source; return cls(config, rngs=build.rngs)"
            raise contract_fault("source", cls, problem, config.type)
        require_built(source, config.type)
        return source


@contextmanager
def placing_stages_of(config: PipelineConfig) -> Iterator[None]:
    """Name the place in the config of a stage that is refused in the block.

    Raises:
        ConfigError: A stage of the config cannot work on the records.
    """
    try:
        yield
    except PlacedStageError as refused:
        if refused.number >= len(config.stages):  # a stage that was made in Python
            raise
        place = ("stages", refused.number, *refused.option)
        raise ConfigError.of([config.problem(place, refused.reason)]) from refused
