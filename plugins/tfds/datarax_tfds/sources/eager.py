"""The eager source: a data set whose records are all read into memory at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

import jax
import numpy as np
from flax import nnx

from datarax_core.config import SourceConfig
from datarax_core.record_files import ReadError
from datarax_core.records import ElementSpec, Ragged, aligned_empty, joined_columns, named_fields
from datarax_core.sources import Columns, DataSetInfo, EagerSourceBase, host_memory
from datarax_tfds.config import TFDSEagerConfig
from datarax_tfds.dataset.data_set import DataSet
from datarax_tfds.features.stored import UndecodableRecord

from .base import TFDSSourceBase, own_streams, require_config
from .opened import Opened, Records, reads_alike
from .several import SeveralAhead
from .sizes import array_bytes, sampled_bytes, size_text
from .streaming import TFDSStreamingSource, stream_of

_BLOCKS: Final = 16
_BLOCK_RECORDS: Final = 64
_BLOCK_BYTES: Final = 1 << 22
"""A data set is read in 16 blocks, unless a block would have fewer than 64 records, or more than 4 MiB in the files."""

_STREAM_BATCH: Final = 256
"""Records in a batch that TensorFlow reads."""


class Loaded:
    """A data set and all its records as columns. Copies of a source share it, outside of graphs."""

    def __init__(self, config: TFDSEagerConfig, title: str) -> None:
        opened = Opened(config, title)
        self.config, self.data_set = config, opened.data_set
        self.columns, self.substituted = _columns_of(opened, _Loader(title, config))
        excluded = None if opened.records is None else opened.records.fingerprint().get("excluded")
        self.fingerprint = {} if excluded is None else {"excluded": excluded}
        if opened.records is not None:
            opened.records.close()  # a thread that read them may not have ended

    substituted = 0
    """Records that others stand in for; pickles of version 0.1.0 have neither this nor a fingerprint."""

    fingerprint: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class _Loader:
    """Stands for a source while its records are loaded, in messages and for hooks of records that fail."""

    title: str
    config: TFDSEagerConfig


class TFDSEagerSource(TFDSSourceBase, EagerSourceBase):
    """A split of a prepared data set, read once into memory; from then on it serves records as a memory source does.

    Each field is one array, allocated once and filled block by block: time is linear in the number of records, and memory is
    that of the arrays. Values of varying shape are ragged columns, joined at the end. These, text and bytes are host fields.

    Args:
        config: Settings.
        loaded: The loaded data set of another source of this class, which `copy` passes on.
        rngs: Random streams; a shuffled source draws its key from the stream ``shuffle``. None stands for
            ``nnx.Rngs(config.seed)``.
        name: Name of this source, for messages.

    Raises:
        TypeError: ``config`` is of another class.
        ValueError: The values of a field are objects of varying shape, or the columns would be larger than the memory.
        RecordError: A record cannot be read or decoded; the message names file, record and cause.
        Whatever `Opened` raises if the data set cannot be read.
    """

    config_class: ClassVar[type[SourceConfig]] = TFDSEagerConfig
    config: TFDSEagerConfig

    def __init__(
        self,
        config: TFDSEagerConfig,
        loaded: Loaded | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        title = type(self).__name__ + (f" {name!r}" if name else "")
        require_config(config, TFDSEagerConfig, title)
        self._loaded = loaded if loaded is not None and reads_alike(config, loaded.config) else Loaded(config, title)
        super().__init__(
            config,
            self._loaded.columns,
            placement=config.placement,
            rngs=own_streams(config, rngs),
            name=name,
        )

        if self._loaded is not loaded:
            self.note_substituted(self._loaded.substituted)

    @property
    def data_set(self) -> DataSet:
        """Description of the data set on disk."""
        return self._loaded.data_set

    def __len__(self) -> int:
        return self.length

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match: those of every TFDS source, and which records are excluded."""
        return {**super().fingerprint(), **self._loaded.fingerprint}

    def get_dataset_info(self) -> DataSetInfo:
        """Return the description of the data set, with records, bytes in memory and element spec of the split."""
        info = super().get_dataset_info()
        info["nbytes"] = self.columns.nbytes
        return info

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the loaded data set, which copies share."""
        return (self._loaded,)


def _columns_of(opened: Opened, loader: _Loader) -> tuple[Columns, int]:
    """Read all records of a data set; return them, and how many of them are substitutes of bad ones.

    Raises:
        ValueError: The values of a field are objects of varying shape, or the columns would be larger than the memory.
    """
    data_set, records = opened.data_set, opened.records
    if records is not None:
        _require_columns(data_set, records.features.varying_objects, loader)
        records.require_records(loader)  # type: ignore[arg-type]  # all that it asks of a source
        records.require_room(loader)
        others = sampled_bytes(records) if records.features.has_ragged else data_set.num_bytes
        _require_memory(data_set, opened.num_records, records.element_spec, others, loader.title)
        columns, substituted = _by_index(data_set, records, loader)
        return Columns.of_tree(columns), substituted
    stream = stream_of(opened)
    spec = stream.element_spec()
    _require_columns(data_set, _varying_objects(data_set, spec), loader)
    _require_memory(data_set, opened.num_records, spec, data_set.num_bytes, loader.title)
    return Columns.of_tree(_by_stream(stream)), 0


def _by_index(data_set: DataSet, records: Records, loader: _Loader) -> tuple[dict[str, Any], int]:
    """Fill the columns block by block, several at once; the blocks take little memory compared with them."""
    total, substituted = records.length, 0
    fitting = _BLOCK_BYTES * total // max(data_set.num_bytes, 1)
    size = max(1, min(max(total // _BLOCKS, _BLOCK_RECORDS), fitting))
    blocks = [np.arange(first, min(first + size, total)) for first in range(0, total, size)]
    columns = jax.tree.map(lambda leaf: _column(total, leaf), records.features.spec)
    served = records.served(columns)

    def decode(block: np.ndarray, stored: list[bytes]) -> dict[str, Any] | None:
        if records.features.has_ragged:
            return dict(records.features.decode(stored))
        records.fill(block, stored, columns)
        return None

    def load(block: np.ndarray) -> Any:
        return decode(block, records.read_block(block))

    is_parallel = records.features.releases_gil  # else the next block is read while this one is decoded here
    ahead: SeveralAhead[Any] = SeveralAhead(load if is_parallel else records.read_block, most=len(blocks) * is_parallel)
    try:
        for number, block in enumerate(blocks):
            for requested in blocks[number + len(ahead) : number + max(2, ahead.threads)]:
                ahead.request(requested)
            try:
                taken = ahead.take()
                batch = taken if is_parallel else decode(block, taken)
                if batch is not None:
                    _copy_rows(columns, batch, int(block[0]))
            except (ReadError, UndecodableRecord):
                batch, count = records.batch_of(block, loader)  # type: ignore[arg-type]  # all that it asks of a source
                _copy_rows(served, batch, int(block[0]))
                substituted += count
    finally:
        ahead.close()
    return _completed(served), substituted


def _by_stream(stream: TFDSStreamingSource) -> dict[str, Any]:
    """Fill the columns with the batches of a stream."""
    total, first = len(stream), 0
    columns = jax.tree.map(lambda leaf: _column(total, leaf), stream.element_spec())
    while first < total:
        batch = stream.read_batch(min(_STREAM_BATCH, total - first))
        first = _copy_rows(columns, batch, first)
    return _completed(columns)


class _RaggedParts(list[Ragged]):
    """A ragged column in parts, which are read one after another."""


def _copy_rows(columns: Any, batch: Any, first: int) -> int:
    """Copy a batch into the rows from ``first`` on, and return the row after the last one."""
    size = len(jax.tree.leaves(batch)[0])

    def put(column: Any, rows: Any) -> None:
        if isinstance(column, _RaggedParts):
            column.append(rows)
        else:
            column[first : first + size] = rows

    jax.tree.map(put, columns, batch, is_leaf=_is_parts)
    return first + size


def _completed(columns: Any) -> dict[str, Any]:
    """Return the columns with ragged ones in one part."""
    whole: dict[str, Any] = jax.tree.map(
        lambda column: joined_columns(column) if _is_parts(column) else column, columns, is_leaf=_is_parts
    )
    return whole


def _is_parts(column: Any) -> bool:
    return isinstance(column, _RaggedParts)


def _column(length: int, struct: jax.ShapeDtypeStruct) -> Any:
    if None in struct.shape:
        return _RaggedParts()
    shape = (length, *struct.shape)
    return np.empty(shape, object) if struct.dtype.hasobject else aligned_empty(shape, struct.dtype)


def _varying_objects(data_set: DataSet, spec: ElementSpec) -> dict[str, str]:
    """Return the fields of varying shape that are no ragged columns, each with its declaration as text."""
    infos = {name: data_set.features[name].get_tensor_info() for name in data_set.kept}
    structs = named_fields({key: spec[name] for name, key in data_set.fields})
    return {
        name: f"{info.np_dtype}{list(info.shape)}"
        for name, info in named_fields(infos).items()
        if None in info.shape and None not in structs[name].shape
    }


def _require_columns(data_set: DataSet, varying: dict[str, str], loader: _Loader) -> None:
    """Raise if the values of fields are objects of varying shape, which columns do not hold.

    Args:
        data_set: The data set.
        varying: These fields, each with its declaration as text.
        loader: Stands for the source.

    Raises:
        ValueError: There are such fields; the message names each, and says what to do.
    """
    if not varying:
        return
    served = {key: name for name, key in data_set.fields}
    listed = ", ".join(f"{name!r} ({declared})" for name, declared in varying.items())
    top = sorted({key for key in served for name in varying if f"{name}.".startswith(f"{key}.")})
    remedy = f"leave them out with exclude_keys={top!r}, or"
    if data_set.supervised_keys is not None:
        remedy = f"the pair has them as {', '.join(served[name] for name in top)};"
    if loader.config.as_objects:
        remedy = "leave as_objects out, or"
    raise ValueError(
        f"{loader.title} cannot hold fields of {data_set.full_name} whose values are objects of varying shape: {listed}; "
        f"{remedy} stream them with TFDSStreamingSource"
    )


def _require_memory(data_set: DataSet, num_records: int, spec: ElementSpec, others: int, title: str) -> None:
    """Raise if the columns would be larger than the memory, before all records are read.

    ``others`` are the bytes of all text, bytes and ragged columns.

    Raises:
        ValueError: They would; the message gives both sizes.
    """
    needed, available = array_bytes(spec, num_records, others), host_memory()
    if needed > available:
        fields = named_fields(spec)
        raise ValueError(
            f"{title} would take {size_text(needed)} for the {num_records} records of {data_set.full_name} "
            f"({', '.join(fields)}), and this machine has {size_text(available)} of memory; take a part of the split, such as "
            f"split={data_set.split.split('[')[0] + '[:10%]'!r}, leave fields out, or stream it with TFDSStreamingSource"
        )
