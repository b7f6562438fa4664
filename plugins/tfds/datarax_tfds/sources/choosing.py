"""The choice between eager and streaming: by options that only one of them has, by fields, and by size and memory."""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.sources import DataSourceModule, fits_device_memory, host_memory
from datarax_tfds.config import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig

from .base import TFDSSourceBase, require_config
from .eager import TFDSEagerSource
from .opened import Opened
from .sizes import array_bytes, sampled_bytes, size_text
from .streaming import TFDSStreamingSource

_SHARE_OF_HOST: Final = 4
"""An eager source takes at most a quarter of the memory, since a model and its optimizer need memory too."""

ConfigT = TypeVar("ConfigT", TFDSEagerConfig, TFDSStreamingConfig)

_log = logging.getLogger("datarax_tfds")


class _Chooses(type(DataSourceModule)):  # type: ignore[misc]  # the metaclass of flax's modules, which ships no stub for it
    """Metaclass by which calling `TFDSSource` returns an eager or a streaming source."""

    def __call__(cls, config: TFDSConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None) -> Any:
        return chosen_source(config, rngs=rngs, name=name)


class TFDSSource(TFDSSourceBase, metaclass=_Chooses):
    """A split of a prepared data set, eager or streaming: ``TFDSSource(config)`` returns one of these, and logs why.

    No source is an instance of this class itself. Configs name it by ``type: tfds``.
    """

    config_class: ClassVar[type[SourceConfig]] = TFDSConfig
    config: TFDSConfig


def from_tfds(
    name: Any, split: Any, *, rngs: nnx.Rngs | None = None, source_name: str | None = None, **options: Any
) -> TFDSEagerSource | TFDSStreamingSource:
    """Return a source over a split of a TFDS data set, eager if it fits into memory, else streaming; log which, and why.

    Args:
        name: The data set, such as ``mnist``, ``mnist:3.0.1`` or ``glue/cola``; or a builder of a prepared one.
        split: The split, such as ``train``, ``train[:80%]`` or one of ``tfds.even_splits("train", n=3)``.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``.
        source_name: Name of the source, for messages.
        options: Fields of `TFDSEagerConfig` or `TFDSStreamingConfig`. A field that only one of them has selects that source.

    Raises:
        ValidationError: An option is unknown or cannot work.
        Whatever the chosen source raises.
    """
    return chosen_source(TFDSConfig(name=name, split=split, **options), rngs=rngs, name=source_name)


@dataclass(frozen=True, slots=True)
class Choice:
    """Choice of the source that serves a data set, eager or streaming, and the reason as a clause."""

    eager: bool
    reason: str


def chosen_source(
    config: TFDSConfig, *, rngs: nnx.Rngs | None = None, name: str | None = None
) -> TFDSEagerSource | TFDSStreamingSource:
    """Return the eager or streaming source for a config, with every option that the config sets."""
    title = "TFDSSource" + (f" {name!r}" if name else "")
    require_config(config, TFDSConfig, title)
    if config.placement is not None:
        return _eager(config, Choice(eager=True, reason="placement is an option of eager sources"), rngs, name)
    streaming = _config_of(TFDSStreamingConfig, config)
    opened = Opened(streaming, title)
    choice = choose(config, opened)
    if choice.eager:
        if opened.records is not None:
            opened.records.close()
        return _eager(config, choice, rngs, name)
    _log_choice(config, "streaming", choice)
    return TFDSStreamingSource(streaming, opened, rngs=rngs, name=name)


def choose(config: TFDSConfig, opened: Opened) -> Choice:
    """Choose between eager and streaming for an opened data set; reads 64 records at most."""
    if only_streaming := config.streaming_options():
        return Choice(eager=False, reason=f"{only_streaming[0]} is an option of streaming sources")
    if opened.records is None:
        return Choice(eager=False, reason="its files are read by tf.data")
    if varying := opened.records.features.varying:
        fields = ", ".join(map(repr, varying))
        return Choice(
            eager=False,
            reason=f"the shape of {fields} varies from record to record, so that their size in memory is unknown",
        )
    return _by_size(opened)


def _by_size(opened: Opened) -> Choice:
    records = opened.records
    assert records is not None  # noqa: S101 - `choose` checked it
    size = array_bytes(records.element_spec, opened.num_records, sampled_bytes(records))
    host = host_memory() // _SHARE_OF_HOST
    size_clause = f"its {opened.num_records:,} records take {size_text(size)}"
    if size > host:
        return Choice(
            eager=False, reason=f"{size_clause}, more than a quarter of this machine's memory, {size_text(host)}"
        )
    if not fits_device_memory(size):
        return Choice(eager=False, reason=f"{size_clause}, more than may lie on the device")
    return Choice(
        eager=True,
        reason=f"{size_clause}, which fits the device, and a quarter of this machine's memory, {size_text(host)}",
    )


def _config_of(config_type: type[ConfigT], config: TFDSConfig) -> ConfigT:
    """Return a config of the chosen source with every option that ``config`` sets."""
    given = config.model_fields_set & config_type.model_fields.keys() - {"type"}
    values = {name: getattr(config, name) for name in given}
    return config_type(**{name: value for name, value in values.items() if value is not None})


def _eager(config: TFDSConfig, choice: Choice, rngs: nnx.Rngs | None, name: str | None) -> TFDSEagerSource:
    _log_choice(config, "eager", choice)
    return TFDSEagerSource(_config_of(TFDSEagerConfig, config), rngs=rngs, name=name)


def _log_choice(config: TFDSConfig, served: str, choice: Choice) -> None:
    _log.info("%s, split %s: %s, because %s", config.name, config.split, served, choice.reason)
