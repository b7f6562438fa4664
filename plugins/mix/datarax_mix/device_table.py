"""One table of all records on the device, if all children are on the device: one gather a batch, however many children.

docs/architecture.md compares it with the alternatives that were measured. The table is put together on its way to the device:
no copy of it stays on the host, and no child gets a copy on the device of its own.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from datarax_core.records import Batch, Changes, ElementSpec, HostTable, aligned_empty, named_fields, split_host_fields
from datarax_core.sources import ColumnGather, Columns, DataSourceModule, EagerSourceBase, Subset


class DeviceTable:
    """The table of all records, child after child, and how compiled code reads it."""

    def __init__(self, parts: Sequence["Part"], spec: ElementSpec) -> None:
        device_fields = split_host_fields(spec)[0]
        self._form = jax.tree.structure(device_fields)
        fields = named_fields(device_fields)
        self.columns = Columns("tuple", {name: JoinedColumn(name, struct, parts) for name, struct in fields.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self.columns.nbytes

    def compiled(
        self, sharding: jax.sharding.Sharding | None, origin: str, changes: Changes | None = None
    ) -> tuple["TableGather", tuple[Any, ...]]:
        """Return (function of arrays and indices, arrays on the device) for `DataSourceModule.compiled_records`."""
        gather, arrays = self.columns.placed(sharding, origin=origin, changes=changes)
        return TableGather(gather, self._form), arrays

    def traced(self, indices: jax.Array, origin: str) -> Batch:
        """Return the records at traced ``indices``; the trace may be a user's own."""
        return jax.tree.unflatten(self._form, self.columns.traced_rows(indices, origin))

    def fetch(self, indices: np.ndarray, origin: str) -> Batch:
        """Return the records at concrete ``indices``, gathered on the device."""
        return gathered(*self.compiled(None, origin), indices)


@dataclass(frozen=True)
class Part:
    """A child, the values of the fields that its records lack, and the child's own names of fields that are renamed."""

    source: DataSourceModule
    constants: Mapping[str, np.ndarray]
    """By dotted name."""
    stored_names: Mapping[str, str] = field(default_factory=dict)

    def __setstate__(self, state: Any) -> None:
        values = dict(zip(("source", "constants"), state, strict=True)) if isinstance(state, list) else state
        vars(self).update({"stored_names": {}, **values})  # version 0.1.0 pickled a list, and renamed no fields

    @property
    def length(self) -> int:
        """Records of the child."""
        return self.source.num_records


class JoinedColumn:
    """One field of all records, child after child; put together when NumPy asks for it as an array."""

    def __init__(self, name: str, struct: jax.ShapeDtypeStruct, parts: Sequence[Part]) -> None:
        self.name = name
        self.dtype = struct.dtype
        self.shape = (sum(part.length for part in parts), *struct.shape)
        self._parts = parts

    @property
    def nbytes(self) -> int:
        """Bytes of the whole column."""
        return int(math.prod(self.shape) * self.dtype.itemsize)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001 - NumPy's signature
        del dtype, copy  # the result is always a new array of the column's own dtype
        whole = aligned_empty(self.shape, self.dtype)
        self.write(whole)
        return whole

    def write(self, out: np.ndarray) -> None:
        """Write the field of all records into ``out``."""
        start = 0
        for part in self._parts:
            rows = out[start : start + part.length]
            start += part.length
            if self.name in part.constants:
                rows[...] = part.constants[self.name]
            elif part.length:
                _write(part.source, part.stored_names.get(self.name, self.name), rows)


@dataclass(frozen=True, slots=True)
class TableGather:
    """Gathers rows of the table inside a compiled program."""

    gather: ColumnGather
    form: Any

    def __call__(self, arrays: tuple[Any, ...], indices: jax.Array) -> Batch:
        """Return the records at ``indices`` as a batch."""
        return jax.tree.unflatten(self.form, self.gather(arrays, indices))

    def on_host(self, arrays: tuple[Any, ...]) -> HostTable | None:
        """Return the columns of the table, of which the batch has rows."""
        table = self.gather.on_host(arrays)
        return None if table is None else HostTable(table.columns, self._arranged)

    def _arranged(self, fields: Sequence[Any]) -> Batch:
        return jax.tree.unflatten(self.form, fields)


@functools.partial(jax.jit, static_argnums=0)
def gathered(gather: TableGather, arrays: tuple[Any, ...], indices: Any) -> Batch:
    """Return ``gather(arrays, indices)``, compiled."""
    return gather(arrays, indices)


def _write(source: DataSourceModule, name: str, out: np.ndarray) -> None:
    """Write one field of all records of a child into ``out``, straight from the child's columns if it has columns."""
    table = getattr(source, "device_table", None)
    if isinstance(table, DeviceTable):
        table.columns.columns[name].write(out)
    elif (columns := _columns(source)) is not None:
        np.copyto(out, columns[name])
    elif isinstance(source, Subset) and (columns := _columns(source.parent)) is not None:
        column = np.asarray(columns[name])
        np.take(column, source.parent_indices(np.arange(len(out))), axis=0, out=out, mode="clip")
    elif isinstance(whole := source.whole_column(name), np.ndarray):
        np.copyto(out, whole)
    else:
        np.copyto(out, named_fields(source.fetch_on_host(np.arange(len(out))))[name])


def _columns(source: DataSourceModule) -> dict[str, Any] | None:
    """Return the columns of a source whose records are exactly its columns; None for any other source."""
    if isinstance(source, EagerSourceBase) and type(source).get_records is EagerSourceBase.get_records:
        return source.columns.by_field()
    return None
