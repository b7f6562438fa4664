"""The choice between eager and streaming: by options that only one of them has, by fields, and by size and memory."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.record_files import ReadError
from datarax_core.records import Batch, named_fields
from datarax_core.sources import DataSourceModule, fits_device_memory, host_memory
from datarax_tfds.config import TFDSConfig, TFDSEagerConfig, TFDSStreamingConfig
from datarax_tfds.features.stored import UndecodableRecord

from .base import TFDSSourceBase, require_config
from .eager import TFDSEagerSource
from .opened import Opened, Records, array_bytes, size_text
from .streaming import TFDSStreamingSource

_SHARE_OF_HOST: Final = 4
"""An eager source takes at most a quarter of the memory, since a model and its optimizer need memory too."""

_SAMPLED_RECORDS: Final = 64

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
        return Choice(eager=False, reason=f"the shape of {fields} varies from record to record, which no array holds")
    return _by_size(opened)


def _by_size(opened: Opened) -> Choice:
    records = opened.records
    assert records is not None  # noqa: S101 - `choose` checked it
    size = array_bytes(records.element_spec, opened.num_records, _object_bytes(records))
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


def _object_bytes(records: Records) -> int:
    """Estimate the memory of all text and bytes from records spread over the split; 0 if there are no such fields."""
    if not any(field.dtype.hasobject for field in named_fields(records.element_spec).values()):
        return 0
    total = records.length
    sampled = np.unique(np.linspace(0, total - 1, _SAMPLED_RECORDS).astype(np.int64))
    batch = named_fields(_sample(records, sampled))
    objects = [value for column in batch.values() if column.dtype.hasobject for value in column.ravel()]
    return sum(map(_object_size, objects)) * total // len(sampled)


def _sample(records: Records, indices: np.ndarray) -> Batch:
    """Return records; without those that are bad, which are an error, or substituted, when they are served."""
    try:
        return records.decoded(indices)
    except (ReadError, UndecodableRecord):
        good = []
        for index in indices:
            with contextlib.suppress(ReadError, UndecodableRecord):
                good.append(records.decoded(index[None]))
        return jax.tree.map(lambda *rows: np.concatenate(rows), *good) if good else {}


def _object_size(value: Any) -> int:
    """Return the bytes of a value in a column of objects, with the pointer to it, and the objects in it if it is an array."""
    inner = sum(map(_object_size, value.ravel())) if isinstance(value, np.ndarray) and value.dtype.hasobject else 0
    own: int = value.__sizeof__()
    return inner + own + np.dtype(object).itemsize


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
