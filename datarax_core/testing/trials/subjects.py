"""Test classes of installed plugins: the kit of a plugin's kind, with what a config or its defaults declare."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import jax
import numpy as np
from pydantic import ValidationError

from datarax_core.config.base import FrozenConfig
from datarax_core.config.models import SourceConfig
from datarax_core.errors import ConfigError
from datarax_core.extensions.hooks import HookRegistry
from datarax_core.extensions.implementations import HOOKS
from datarax_core.pipeline.build import build_source
from datarax_core.pipeline.pipeline import Pipeline
from datarax_core.records.joining import host_column
from datarax_core.records.spec import spec_of
from datarax_core.registry.decoders import Decoder, default_decoders
from datarax_core.registry.pipeline_config import PipelineConfig, load_config, parse_config
from datarax_core.registry.sources import default_registry
from datarax_core.registry.stages import default_stages
from datarax_core.testing.decoders.conformance import DecoderConformance
from datarax_core.testing.hooks.conformance import HookConformance
from datarax_core.testing.sources.conformance import SourceConformance
from datarax_core.testing.stages.conformance import HostStageConformance, StageConformance

CLASSES: Final[list[type]] = []
"""The test class, which the module that pytest collects takes from here."""

Given: TypeAlias = str | Mapping[str, Any] | None
"""The path of a config, or a config as a mapping."""

_RECORDS: Final = 12
"""Records of a config's source that stages and decoders are tried with."""


def class_for(kind: str, name: str, given: Given) -> type:
    """Return the class whose tests hold a plugin to its promises.

    Args:
        kind: The noun for its kind: "source", "stage", "decoder" or "hook plugin".
        name: Its name.
        given: A config in which the plugin is used; None takes the defaults.

    Raises:
        ConfigError: The plugin cannot be tried so; says what is missing.
    """
    return _CLASSES[kind](name, given)


def _source(name: str, given: Given) -> type:
    if given is None:
        config = _buildable(_of_defaults("source", default_registry().config_type(name), name), name)
    else:
        loaded = _loaded(given)
        config = _used(loaded.source, SourceConfig, name, "source", given)
    return type("TestPlugin", (SourceConformance,), {"config": config, "every_record_once": _Once()})


def _buildable(config: SourceConfig, name: str) -> SourceConfig:
    """Return the config of defaults if a source can be built of it.

    Raises:
        ConfigError: It cannot: nobody claims that one without data can.
    """
    try:
        build_source(config).close()
    except (ConfigError, ValueError, OSError) as cause:
        raise ConfigError(
            f"source {name!r} cannot be built by its defaults ({cause}); give a config that uses it, or a file that it opens: "
            f"drx check {name} --run --config FILE"
        ) from cause
    return config


class _Once:
    """The declaration of a source kit that its source makes itself: whether an epoch serves each record once."""

    def __get__(self, instance: Any, owner: type) -> bool:
        if instance is None:
            return True
        return bool(instance.make_source(instance.config, 0).serves_each_once)


def _stage(name: str, given: Given) -> type:
    if given is None:
        raise ConfigError(
            f"a stage is tried with records: give a config in which {name!r} is a stage: drx check {name} --run --config FILE"
        )
    loaded = _loaded(given)
    places = [place for place, stage in enumerate(loaded.stages) if stage.type == name]
    if not places:
        raise ConfigError(f"{_title(given)}: stage {name!r} is not among its stages")
    stage = loaded.stages[places[0]]
    kit = HostStageConformance if getattr(default_stages().get(name), "on_host", False) is True else StageConformance
    return type("TestPlugin", (kit,), {"config": stage, "records": _records_before(loaded, places[0])})


def _records_before(config: PipelineConfig, place: int) -> dict[str, Any]:
    """Return some records as they reach the stage at ``place``, in columns on the host."""
    changes = {"stages": config.stages[:place], "prefetch": 0, "workers": 0, "drop_last": False, "pad_last": None}
    sizes = {} if config.batch_size is None else {"batch_size": _RECORDS}
    batch = next(iter(Pipeline.from_config(config.model_copy(update=changes | sizes))))
    columns: dict[str, Any] = jax.tree.map(lambda column: host_column(column)[:_RECORDS], batch)
    return columns


def _decoder(name: str, given: Given) -> type:
    kind = default_decoders().get(name)
    if given is None:
        return type("TestPlugin", (DecoderConformance,), _written_by(kind, name))
    loaded = _loaded(given)
    decoder = _used(loaded.source, Decoder, name, "decoder", given)
    return type("TestPlugin", (DecoderConformance,), {"config": decoder, "records": _bytes_of(loaded, decoder, given)})


def _written_by(kind: type[Decoder], name: str) -> dict[str, Any]:
    """Return what is declared of a decoder that writes the records it is tried with."""
    batch = {
        "label": np.arange(_RECORDS, dtype=np.int32),
        "image": np.arange(_RECORDS * 6, dtype=np.float32).reshape(-1, 2, 3),
    }
    try:
        decoder = kind.for_spec(spec_of(batch))
        decoder.encode(batch)
    except (NotImplementedError, ValueError, TypeError) as cause:
        raise ConfigError(
            f"decoder {name!r} does not write numbers ({cause}), so that there are no records to try it with; give a config "
            f"whose source uses it: drx check {name} --run --config FILE"
        ) from cause
    return {"config": decoder, "batch": batch}


def _bytes_of(config: PipelineConfig, decoder: Decoder, given: str | Mapping[str, Any]) -> list[bytes]:
    """Return the bytes of some records of the source that uses a decoder."""
    (user, *_) = (one for one in _parts(config.source) if any(value is decoder for _, value in one))
    raw = [default_decoders().get("raw")(type="raw")] if "raw" in default_decoders().names() else []
    for other in (None, *raw):  # without a decoder, a data set may name its own
        source = build_source(user.model_copy(update={"decoder": other, "cacheable": False}))
        found: list[Any] = source.get_elements(np.arange(min(_RECORDS, source.num_records)))
        records: list[Any] = [one.get("record") if isinstance(one, Mapping) else one for one in found]
        records = [one.item() if isinstance(one, np.ndarray) and not one.ndim else one for one in records]
        if all(isinstance(record, bytes) for record in records):
            return records
    raise ConfigError(f"{_title(given)}: {source.title} does not give the bytes of its records")


def _hooks(name: str, given: Given) -> type:  # noqa: ARG001 - hook plugins have no config
    plugin = HookRegistry.from_environment().get(name)
    shown = {hook: "the tests of its author" for hook in HOOKS if hasattr(plugin, hook)}
    return type("TestPlugin", (HookConformance,), {"plugin": plugin, "shown_elsewhere": shown})


_CLASSES: Final = {"source": _source, "stage": _stage, "decoder": _decoder, "hook plugin": _hooks}


def _loaded(given: str | Mapping[str, Any]) -> PipelineConfig:
    return load_config(given) if isinstance(given, str) else parse_config(given)


def _title(given: str | Mapping[str, Any]) -> str:
    return given if isinstance(given, str) else "the config"


def _of_defaults(kind: str, config: type[FrozenConfig], name: str) -> Any:
    """Return the config of the defaults.

    Raises:
        ConfigError: Fields have none.
    """
    try:
        return config.model_validate({"type": name})
    except ValidationError as invalid:
        fields = ", ".join(str(error["loc"][0]) for error in invalid.errors() if error["loc"])
        needs = f"needs {fields}" if fields else "is not valid by its defaults"
        raise ConfigError(
            f"the config of {kind} {name!r} {needs}; give one that uses it, or a file that it opens: drx check {name} --run "
            "--config FILE"
        ) from invalid


def _used(config: FrozenConfig, base: type[FrozenConfig], name: str, kind: str, given: str | Mapping[str, Any]) -> Any:
    """Return the first config of a type, at any depth of another one.

    Raises:
        ConfigError: There is none.
    """
    for part in _parts(config):
        if isinstance(part, base) and getattr(part, "type", None) == name:
            return part
    raise ConfigError(f"{_title(given)}: {kind} {name!r} is not used in it")


def _parts(value: Any) -> Iterator[Any]:
    """Yield the configs in a value, at any depth, outermost first."""
    if isinstance(value, FrozenConfig):
        yield value
        for _, inner in value:
            yield from _parts(inner)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _parts(inner)
