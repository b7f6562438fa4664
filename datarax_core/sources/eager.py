"""Base class of sources that hold all their records as arrays."""

import functools
import inspect
import os
import zlib
from dataclasses import replace
from typing import Any, Literal, Self, TypeAlias, get_args

import jax
import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig, StructuralConfig
from datarax_core.config.shuffling import shuffled_by
from datarax_core.devices.aside import Aside
from datarax_core.devices.memory import fits_device_memory
from datarax_core.errors import SpecError
from datarax_core.order.numbers import record_numbers
from datarax_core.order.order import Order
from datarax_core.records.digests import digest_of, is_plain, may_hold_set
from datarax_core.records.dtypes import is_text
from datarax_core.records.intake import Changes
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec

from .access import Access
from .columns import ColumnGather, Columns
from .data_set_info import DataSetInfo
from .identity import SAMPLED_RECORDS
from .source import DataSourceModule
from .verification import Verified, verified

Placement: TypeAlias = Literal["auto", "device", "host"]
"""Where columns are gathered: on the device, on the host, or on the device if they fit there."""


class EagerSourceBase(DataSourceModule):
    """A source over columns: random access at the speed of a gather, on the device or on the host.

    Args:
        config: The settings.
        columns: The records.
        order: The order and shard that is served; None serves all records.
        shuffle: Whether the records are served shuffled, which needs a stochastic config; None is as a `Shuffling` field of the
            config says, and in sequence if it has none.
        placement: ``"device"``: records are copied to the device once, and gathered by compiled code. ``"host"``: records are
            gathered by NumPy, and each batch is transferred. ``"auto"``: the device if the records fit there (half of an
            accelerator's memory, a quarter of a CPU's), else the host.
        rngs: Random streams.
        name: Name of the source in errors.

    Raises:
        TypeError: ``columns`` are no `Columns`, or ``order`` is no `Order`.
        ValueError: ``placement`` is none of the three, or there is no random stream to shuffle with.
    """

    traceable = True
    counts_are_fixed = True
    _columns = Aside[Columns]()

    def __init__(
        self,
        config: StructuralConfig,
        columns: Columns,
        *,
        order: Order | None = None,
        shuffle: bool | None = None,
        placement: Placement = "auto",
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config, rngs=rngs, name=name)
        if not isinstance(columns, Columns):
            raise TypeError(f"{self.title} takes Columns, as columns_of(data, title) makes them, not {columns!r:.80}")
        if not isinstance(order, Order | None):
            raise TypeError(f"{self.title} takes an Order, or None to serve all records, not {order!r:.80}")
        if placement not in get_args(Placement):
            raise ValueError(f"{self.title} has placement {placement!r:.80}, which is none of 'auto', 'device', 'host'")
        self._columns = columns
        self._order = order
        self.set_random_order(bool(shuffled_by(config)) if shuffle is None else shuffle)
        self.placement: Placement = placement

    @property
    def data(self) -> Any:
        """The columns by name, nested as the records are.

        Called: by users.
        Default: views of the columns, without a copy.
        """
        columns = self._columns
        return columns.arranged(columns.columns) if columns.form == "nested" else columns.columns

    @property
    def columns(self) -> Columns:
        """The records, as columns.

        Called: by views, and subclasses.
        """
        return self._columns

    @property
    def length(self) -> int:
        """Number of records.

        Called: by users.
        """
        return self._columns.length

    @property
    def access(self) -> Access:
        """``"device"`` or ``"host"``: the `placement`; for ``"auto"`` the device if its columns fit there."""
        if self.placement == "auto":
            is_placed = not self._is_all_ragged and fits_device_memory(self._columns.device_nbytes)
            return "device" if is_placed else "host"
        return self.placement

    @property
    def _is_all_ragged(self) -> bool:
        """Whether each column is ragged, so that nothing would lie on a device; the host reads ahead, a device does not."""
        columns = self._columns.columns.values()
        return bool(columns) and all(isinstance(column, Ragged) for column in columns)

    def __len__(self) -> int:
        return self._columns.length

    def order(self) -> Order:
        """Return the order of the positions that this source serves.

        Raises:
            ValueError: There are no records.
        """
        self._require_records()
        return self._order or Order(self.length)

    def element_spec(self) -> ElementSpec:
        """Return the spec of one record, with the dtypes as stored; `device_spec` is the spec as a device keeps it.

        Raises:
            ValueError: There are no records.
        """
        self._require_records()
        return self._columns.spec()

    def get_records(self, indices: Any) -> Batch:
        """Return the records at ``indices``: JAX arrays from the device, or NumPy arrays (copies) from the host.

        Raises:
            TypeError: Concrete indices are no integer array (k,).
            IndexError: An index is out of range.
            NarrowingError: On the device, a 64-bit value does not fit 32 bits.
            SpecError: The indices are traced, and records have host fields; names these fields.
        """
        self._require_records()
        if isinstance(indices, jax.core.Tracer):
            self._require_device_fields("compiled code cannot carry")
            return self._columns.traced_rows(indices, self.title)
        indices = record_numbers(indices, self.length, self.title)
        if self.access == "host" or os.getpid() != self._saved_work.process:  # in a fork, JAX would wait without end
            return self._columns.rows(indices)
        gather, arrays = self._columns.placed(origin=self.title)
        host_fields = self._columns.host_fields(indices)
        if not host_fields:
            return _gathered(gather, arrays, indices)
        return self._columns.arranged(_gathered(replace(gather, form="dict"), arrays, indices) | host_fields)

    def fetch(self, indices: Any) -> Batch:
        """Return `get_records`; no cache is needed, since all records are in memory."""
        return self.get_records(indices)

    def fetch_traced(self, indices: jax.Array, *, over_mesh: bool = False) -> Batch:
        """Return the records at traced ``indices``, with device dtypes; host fields are refused by name.

        Over a mesh the host reads the records, since a trace cannot close over arrays on other devices.
        """
        if not over_mesh:
            return super().fetch_traced(indices)
        self.require_no_host_fields()
        return self.fetch_by_callback(indices)

    def fetch_on_host(self, indices: np.ndarray) -> Batch:
        """Return the records at ``indices`` as NumPy arrays, whatever the placement."""
        return self._columns.rows(indices)

    def verify_records(self, indices: np.ndarray) -> Verified:
        """Return which of the records at ``indices`` cannot be read; NumPy reads them, mapped files included."""
        return verified(self.fetch_on_host, np.asarray(indices), self.title)

    @property
    def changes_columns(self) -> bool:
        """True, unless a subclass has a `compiled_records` of its own that takes no changes."""
        return "changes" in inspect.signature(self.compiled_records).parameters

    def compiled_records(
        self, sharding: jax.sharding.Sharding | None = None, changes: Changes | None = None
    ) -> tuple[ColumnGather, tuple[Any, ...]]:
        """Return (gather, placed columns) with which a compiled step reads the records."""
        return self._columns.placed(sharding, origin=self.title, changes=changes)

    def host_field_records(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the text and object columns at ``indices``."""
        host_fields = self._columns.host_fields(indices)
        return self._columns.arranged(host_fields) if self._columns.form == "nested" else host_fields

    def get_elements(self, indices: np.ndarray) -> list[Any]:
        """Return the records one by one as NumPy values: read-only views of the columns, whatever the placement."""
        return [self._columns.rows(index) for index in indices]

    def whole_column(self, field: str) -> np.ndarray | Ragged | None:
        """Return the column of a field, mapped if its file is, not copied; None if a subclass makes its records of others."""
        is_as_held = type(self).get_records is EagerSourceBase.get_records
        return self._columns.whole_column(field) if is_as_held else None

    def get_batch(self, batch_size: int, key: Any = None) -> Batch:
        """Return the next batch of this source's own order; with ``key``, the first batch of the order that ``key`` selects.

        With ``key`` the call is stateless: the position stays.
        """
        if key is not None:
            return self.get_batch_at(0, batch_size, key)
        return super().get_batch(batch_size)

    def get_dataset_info(self) -> DataSetInfo:
        """Return name, number of records, bytes and element spec.

        Called: by users.
        Default: name, number of records and element spec.
        """
        return DataSetInfo(
            {
                "name": self.name or type(self).__name__,
                "num_records": self.length,
                "nbytes": self._columns.nbytes,
                "element_spec": self.element_spec(),
            }
        )

    def collect_to_array(self, sharding: jax.sharding.Sharding | None = None) -> Batch:
        """Return all records on the device, in the order of their index, for training that is staged there.

        Cost: one copy of the columns to the device; none if they are there already and ``sharding`` is None.

        Raises:
            ValueError: There are no records.
            SpecError: Records have host fields; names them.
            TypeError: ``sharding`` is no sharding.

        Called: by users, for training staged on a device.
        """
        self._require_records()
        self._require_device_fields("no device has")
        gather, arrays = self._columns.placed(origin=self.title)
        if not isinstance(sharding, jax.sharding.Sharding | jax.Device | None):
            raise TypeError(f"sharding is a jax.sharding.Sharding, or None for one device, not {sharding!r:.80}")
        whole = gather.whole(arrays)
        return whole if sharding is None else jax.device_put(whole, sharding)

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a copy as `DataSourceModule.copy` does, with the same shard and placement, shuffled if this source is."""
        twin = super().copy(config=config, rngs=rngs, name=name)
        if type(self).__init__ is EagerSourceBase.__init__:  # the constructor of a subclass sets these from its config
            twin._order, twin.placement = self._order, self.placement  # noqa: SLF001 - of this class
            twin.is_random_order = self.is_random_order and twin.order_key is not None
        return twin

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of every source, with the shard and a digest of sixteen records from all over the data set.

        The digest of records with text or bytes, or of varying length, has a name of its own: that of earlier releases depended
        on dtype and width.
        """
        order = self.order()
        rows = jax.tree.leaves(self._columns.rows(np.linspace(0, self.length - 1, SAMPLED_RECORDS).astype(np.int64)))
        foreign = [
            leaf
            for leaf in rows
            if leaf.dtype.hasobject and not isinstance(leaf, Ragged) and not is_plain(leaf.tolist())
        ]
        return {
            **super().fingerprint(),
            "shard": [order.shard, order.num_shards],
            **({"records": digest_of(rows)} if any(map(_has_digest, rows)) else {"sample": f"{_digest(rows):08x}"}),
            **({"objects": digest_of(foreign)} if foreign else {}),
        }

    def constructor_data(self) -> tuple[Any, ...]:
        """Return the columns."""
        return (self._columns,)

    def _require_records(self) -> None:
        if not self._columns.length:
            raise ValueError(f"{self.title} is empty: it has no records to serve; give it one at least")

    def _require_device_fields(self, trouble: str) -> None:
        host_fields = sorted(self._columns.columns.keys() - set(self._columns.on_device))
        if host_fields:
            raise SpecError(
                f"{self.title} has fields that {trouble}: {', '.join(host_fields)}; leave them out, or use get_batch()"
            )


@functools.partial(jax.jit, static_argnums=0)
def _gathered(gather: ColumnGather, arrays: tuple[Any, ...], indices: Any) -> Batch:
    return gather(arrays, indices)


def _has_digest(leaf: Any) -> bool:
    """Return whether a column is ragged, or one of text or bytes."""
    if isinstance(leaf, Ragged):
        return True
    return is_text(leaf.dtype) or (leaf.dtype == object and all(isinstance(value, str | bytes) for value in leaf.flat))


def _digest(leaves: list[np.ndarray]) -> int:
    crc = 0
    for leaf in leaves:
        crc = zlib.crc32(_text_of(leaf) if leaf.dtype.hasobject else np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


def _text_of(leaf: np.ndarray) -> bytes:
    """Return objects as the text that states of all releases hold; as their number where that changes from run to run."""
    values = leaf.tolist()
    text = repr(values)
    return (text if is_plain(values) or not (" at 0x" in text or may_hold_set(values)) else str(leaf.size)).encode()
