"""Records as columns: arrays of the caller on the host, copied to a device once if compiled code reads them there."""

import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import jax
import numpy as np

from datarax_core.background import renew_in_forks
from datarax_core.devices.placement import free_references, in_large_pages, put, read_rows, reference_to
from datarax_core.errors import SpecError
from datarax_core.order.permutation import DEVICE_LIMIT
from datarax_core.records.arrow_lists import fixed_lists_of_arrow, is_arrow_lists
from datarax_core.records.dtypes import goes_to_device, is_text, require_no_key
from datarax_core.records.foreign_data import advice_for, host_array, is_sparse, is_text_series, require_records
from datarax_core.records.gathers import aligned_empty
from datarax_core.records.intake import Changes, LeftOut
from datarax_core.records.joining import host_column
from datarax_core.records.names import dotted_name
from datarax_core.records.narrowing import narrow_field
from datarax_core.records.nearest import nearest
from datarax_core.records.ragged import Ragged
from datarax_core.records.spec import Batch, ElementSpec, named_fields, nested_fields
from datarax_core.records.stacking import ValuePath, column_of
from datarax_core.records.tables import HostTable

Form: TypeAlias = Literal["dict", "nested", "tuple", "array"]
"""The structure of a batch: a dict of columns, dicts of dicts by dotted names, a tuple, or a single array."""


class Columns:
    """The columns of a data set, all of one length.

    Columns are compared by identity and stay outside of the graph of a module: neither ``nnx.jit`` nor a checkpoint sees the
    data. Nothing is copied on the host. `placed` makes one copy on the device, which all users of these columns share. It
    copies nothing if the device can use the host's memory, as a CPU can if the array is aligned to 64 bytes.
    """

    def __init__(self, form: Form, columns: Mapping[str, Any]) -> None:
        if form not in get_args(Form):
            raise ValueError(
                f"columns make up a batch as a 'dict', 'nested' dicts, a 'tuple' or an 'array', not as {form!r:.80}"
            )
        if not isinstance(columns, Mapping):
            raise TypeError(f"columns are a dict of arrays by name, not {columns!r:.80}; see columns_of for other data")
        self.form: Form = form
        self.columns = dict(columns)
        self.length = len(next(iter(self.columns.values()), ()))
        self._placed: dict[jax.sharding.Sharding | None, tuple[Any, ...]] = {}
        self._placed_alone: dict[tuple[jax.sharding.Sharding | None, bool], dict[tuple[str, Any], Any]] = {}
        self._are_references = False

    @classmethod
    def of_tree(cls, tree: Mapping[str, Any]) -> "Columns":
        """Return columns of a dict, nested or not, of arrays of one length; nothing is copied."""
        if not any(isinstance(value, Mapping) for value in tree.values()):
            return cls("dict", tree)
        return cls("nested", named_fields(tree))

    def __getstate__(self) -> dict[str, Any]:
        return vars(Columns(self.form, self.columns))  # without the copies on devices, which are made again

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({"_placed_alone": {}, **state})  # pickles of version 0.1.0 lack it

    @functools.cached_property
    def _on_host(self) -> dict[str, Any]:
        return {name: _read_only(column) for name, column in self.columns.items()}

    @property
    def on_device(self) -> tuple[str, ...]:
        """Names of the columns that a device can hold; the other columns are host fields."""
        return tuple(name for name, column in self.columns.items() if goes_to_device(column))

    def by_field(self) -> dict[str, Any]:
        """Return the columns by the dotted name of their field, as `named_fields` names the fields of a batch."""
        if self.form != "dict":
            return self.columns
        return {dotted_name([name]): column for name, column in self.columns.items()}

    def whole_column(self, field: str) -> Any:
        """Return the column of a field by its dotted name, read-only; None if there is no such field."""
        name = dict(zip(self.by_field(), self.columns, strict=True)).get(field)
        return None if name is None else self._on_host[name]

    @property
    def nbytes(self) -> int:
        """Bytes of all columns as stored."""
        return sum(column.nbytes for column in self.columns.values())

    @property
    def device_nbytes(self) -> int:
        """Bytes of the columns that a device can hold, as stored."""
        return sum(self.columns[name].nbytes for name in self.on_device)

    def spec(self) -> ElementSpec:
        """Return the element spec, with the dtypes as stored."""
        return self.arranged({n: jax.ShapeDtypeStruct(c.shape[1:], c.dtype) for n, c in self.columns.items()})

    def rows(self, indices: Any) -> Batch:
        """Return the records at concrete ``indices`` as new NumPy arrays, or the record at one index as read-only views."""
        return self.arranged({name: _taken(column, indices) for name, column in self._on_host.items()})

    def host_fields(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the host fields, by name of the column, at concrete ``indices``."""
        held = set(self.on_device)
        return {name: column[indices] for name, column in self._on_host.items() if name not in held}

    def arranged(self, fields: Mapping[str, Any]) -> Any:
        """Return values of columns, given by name, in the structure of a batch; columns without a value are left out."""
        return _arranged(self.form, {name: fields[name] for name in self.columns if name in fields})

    def placed(
        self, sharding: jax.sharding.Sharding | None = None, *, origin: str = "", changes: Changes | None = None
    ) -> tuple["ColumnGather", tuple[Any, ...]]:
        """Return (function of arrays and indices, arrays on the device), with which a compiled program reads records.

        ``sharding`` puts a copy on each of its devices instead of the default device. ``changes`` are those of columns before
        they are narrowed: such a column is left out, or converted.

        Raises:
            NarrowingError: A 64-bit value does not fit 32 bits; names field, record and ``origin``, the source's title.
            ValueError: There are more records than a device addresses.
        """
        if changes:
            return self._placed_changed(sharding, origin, changes)
        names = self.on_device
        if sharding not in self._placed:
            if self.length > DEVICE_LIMIT:
                raise ValueError(
                    f"{self.length} records are more than the {DEVICE_LIMIT} that a device addresses; use placement='host'"
                )
            with jax.core.eval_context():
                narrowed = (
                    narrow_field(name, _whole(self.columns[name]), records=range(self.length), origin=origin)
                    for name in names
                )
                self._placed[sharding] = tuple(_place(array, sharding) for array in narrowed)
        by_reference = self._are_references and sharding is None
        return ColumnGather(self.form, names, by_reference), self._placed[sharding]

    def _placed_changed(
        self, sharding: jax.sharding.Sharding | None, origin: str, changes: Changes
    ) -> tuple["ColumnGather", tuple[Any, ...]]:
        """Return `placed` after changes of columns; columns without changes are shared."""
        by_reference = changes.by_reference
        dtypes = {change.name: change.dtype for change in changes.fields}
        fields = dict(zip(self.columns, self.by_field(), strict=True))
        held = self._placed_alone.setdefault((sharding, by_reference), {})
        if sharding in self._placed and by_reference == (self._are_references and sharding is None):
            held |= {(name, None): array for name, array in zip(self.on_device, self._placed[sharding], strict=True)}
        kept: dict[str, Any] = {}
        left_out = []
        for place, name in enumerate(self.on_device):
            dtype = dtypes.get(fields[name])
            if dtype is None and fields[name] in dtypes:
                left_out.append((place, name, LeftOut.of(self.columns[name], self.columns[name].shape[1:])))
                continue
            if (name, dtype) not in held:
                with jax.core.eval_context():
                    array = self._placed_column(name, fields[name], dtype, sharding, origin)
                    held[name, dtype] = reference_to(array) if by_reference else array
                    if by_reference:
                        weakref.finalize(self, free_references, (held[name, dtype],)).atexit = False
            kept[name] = held[name, dtype]
        return ColumnGather(self.form, tuple(kept), by_reference, tuple(left_out)), tuple(kept.values())

    def _placed_column(
        self, name: str, field: str, dtype: Any, sharding: jax.sharding.Sharding | None, origin: str
    ) -> Any:
        column = _whole(self.columns[name])
        if dtype is None:
            return _place(narrow_field(field, column, records=range(self.length), origin=origin), sharding)
        return _place(nearest(column, dtype), sharding)

    def traced_rows(self, indices: jax.Array, origin: str = "") -> Batch:
        """Return the records at traced ``indices``, in a trace of a user's own.

        A program would hold an array of its closure as a constant (minutes to compile, a second copy in memory), and
        ``nnx.jit`` copies an array in a variable at every call. Neither happens to a ``jax.Ref``, which programs access by
        reference. Access through a ``jax.Ref`` costs compiled loops a fifth of their speed, so columns become references only
        when a user's trace first reads them.
        """
        gather, arrays = self.placed(origin=origin)
        if not self._are_references:
            self._placed[None] = arrays = tuple(map(reference_to, arrays))
            weakref.finalize(self, free_references, arrays).atexit = False
            self._are_references = True
            gather = ColumnGather(gather.form, gather.names, by_reference=True)
        return gather(arrays, indices)


@dataclass(frozen=True, slots=True)
class ColumnGather:
    """Reads rows of placed columns in a compiled program. Hashable, so that programs over similar columns are compiled once."""

    form: Form
    names: tuple[str, ...]
    by_reference: bool
    left_out: tuple[tuple[int, str, LeftOut], ...] = ()
    """The place among all columns, the name, and what stands in the batch for it, of each column that is left out."""

    def __call__(self, arrays: tuple[Any, ...], indices: jax.Array) -> Batch:
        """Return the batch of the records at ``indices``, all of which must be in range."""
        take: Callable[[Any], jax.Array] = (
            functools.partial(read_rows, indices=indices)
            if self.by_reference
            else lambda array: array.at[indices].get(mode="promise_in_bounds")
        )
        fields = list(zip(self.names, map(take, arrays), strict=True))
        for place, name, field in self.left_out:
            fields.insert(place, (name, field.zeros(indices.shape[0])))
        return _arranged(self.form, dict(fields))

    def on_host(self, arrays: tuple[Any, ...]) -> HostTable | None:
        """Return the placed columns; None if some are references, or are left out."""
        if self.by_reference or self.left_out:
            return None
        # as compiled code returns them: fields of a dict sorted by name
        places, form = jax.tree.flatten(_arranged(self.form, {name: n for n, name in enumerate(self.names)}))
        return HostTable(arrays, lambda fields: jax.tree.unflatten(form, [fields[place] for place in places]))

    def whole(self, arrays: tuple[Any, ...]) -> Batch:
        """Return the placed columns as one batch of all records."""
        read = [array[...] for array in arrays] if self.by_reference else arrays
        return _arranged(self.form, dict(zip(self.names, read, strict=True)))


def columns_of(data: Any, title: str) -> Columns:
    """Return columns of a dict of arrays (not copied) or of a sequence of elements (stacked).

    Lists of arrays that differ in length become ragged columns.

    Raises:
        TypeError: ``data`` is a string, an iterator, a nested dict, or another object that holds no records.
        ValueError: Columns are scalars or differ in length; names each column with its length.
        SpecError: Elements differ from the first one, or no dtype holds all values of a field; names the element.
    """
    require_records(data, title)
    if isinstance(data, Mapping):
        return _from_mapping(data, title)
    if isinstance(data, str | bytes | bytearray):
        raise TypeError(f"{title} was given a {type(data).__name__}; pass a dict of arrays or a list of elements")
    if isinstance(data, Iterator):
        raise TypeError(
            f"{title} was given a {type(data).__name__}: use it as it is if it is a source, or pass list(...) of it"
        )
    if isinstance(data, np.ndarray | jax.Array | Ragged):
        return Columns("array", {"record": _column("record", data, title)})
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(f"{title} needs a dict of arrays or a list of elements, not {type(data).__name__}")
    return _from_elements(_elements(data, title), title)


def _elements(data: Any, title: str) -> list[Any]:
    try:
        return [data[index] for index in range(len(data))]
    except (KeyError, IndexError, TypeError) as cause:
        raise TypeError(
            f"{title} was given a {type(data).__name__}, which has no elements 0 .. {len(data) - 1}; pass a dict of arrays "
            "or a list of elements"
        ) from cause


def _from_mapping(data: Mapping[str, Any], title: str) -> Columns:
    _require_text(data, title)
    columns = {name: _column(name, values, title) for name, values in data.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"the columns of {title} differ in length: {listed}; each record needs a value in every column"
        )
    return Columns("dict", columns)


def _require_text(names: Iterable[Any], title: str) -> None:
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"the fields of {title} have names, which are text, not {name!r}")


def _column(name: str, values: Any, title: str) -> Any:
    if isinstance(values, Mapping):
        raise TypeError(
            f"column {name!r} of {title} is a dict; columns are arrays, so give each of its entries a name of its own, "
            f"such as {name + '_' + str(next(iter(values), 'x'))!r}"
        )
    require_no_key(f"column {name!r} of {title}", values)
    if (
        isinstance(values, Sequence)
        and not isinstance(values, str | bytes | range)
        and not hasattr(values, "__array__")
    ):
        values = values if isinstance(values, list | tuple) else list(values)
        if values and not isinstance(values[0], Mapping):
            return column_of(values, ValuePath(name, title))
    values = _of_arrow(name, values, title)
    if isinstance(values, Ragged):
        return values
    if not isinstance(values, np.ndarray | jax.Array):
        values = _array(name, values, title)
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"column {name!r} of {title} is masked, and its mask would be lost; fill it: array.filled(value)"
        )
    if values.ndim == 0 and values.dtype == object:
        raise TypeError(
            f"column {name!r} of {title} is a {type(values.item()).__name__}; a column is an array, or a list with one value "
            "for each record"
        )
    if values.ndim == 0:
        raise ValueError(f"column {name!r} of {title} is the scalar {values!r}; a column has one value for each record")
    return values


def _of_arrow(name: str, values: Any, title: str) -> Any:
    """Return lists of Arrow as a ragged column or as an array; any other values as they are."""
    try:
        if is_arrow_lists(values):
            return Ragged.from_arrow(values)
        rows = fixed_lists_of_arrow(values)
    except SpecError as cause:
        raise SpecError(f"column {name!r} of {title} cannot be served: {cause}") from cause
    return values if rows is None else rows


def _array(name: str, values: Any, title: str) -> Any:
    """Return a column that another library holds as an array."""
    if is_text_series(values):
        return column_of(values.to_list(), ValuePath(name, title))
    if is_sparse(values):
        raise TypeError(f"column {name!r} of {title} is {advice_for(values)}")
    try:
        return host_array(values, lambda: f"column {name!r} of {title}")
    except ValueError as ragged:
        raise ValueError(f"column {name!r} of {title} is no array: {ragged}") from ragged


def _from_elements(elements: list[Any], title: str) -> Columns:
    if not elements:
        return Columns("dict", {})
    first = elements[0]
    if isinstance(first, Mapping | tuple) and not first:
        raise TypeError(f"the elements of {title} are empty, like {first!r}; each needs a field at least")
    if isinstance(first, Mapping):
        names = list(first)
        _require_text(names, title)
        _require_alike(elements, lambda e: isinstance(e, Mapping) and e.keys() == first.keys(), names, title)
        return Columns("dict", {n: _field(n, [e[n] for e in elements], title) for n in names})
    if isinstance(first, tuple):
        places = range(len(first))
        _require_alike(elements, lambda e: isinstance(e, tuple) and len(e) == len(first), list(places), title)
        return Columns("tuple", {str(i): _field(str(i), [e[i] for e in elements], title) for i in places})
    return Columns("array", {"record": _field("record", elements, title)})


def _field(name: str, values: list[Any], title: str) -> Any:
    if isinstance(values[0], Mapping):
        raise TypeError(
            f"field {name!r} of the elements of {title} is a dict; elements are flat, so give its entries names"
        )
    return column_of(values, ValuePath(name, title))


def _require_alike(elements: list[Any], alike: Callable[[Any], bool], fields: list[Any], title: str) -> None:
    for index, element in enumerate(elements):
        if not alike(element):
            raise SpecError(f"element {index} of {title} is not like element 0, which has {fields}: {element!r:.80}")


def _arranged(form: Form, columns: dict[str, Any]) -> Any:
    if form == "dict":
        return columns
    if form == "nested":
        return nested_fields(columns)
    return tuple(columns.values()) if form == "tuple" else next(iter(columns.values()))


def _taken(column: Any, indices: Any) -> Any:
    """Return the rows at ``indices``, all in range, in memory that a device can use without a copy; for one index a view."""
    # np.take would copy the whole of a column that is not C-contiguous, a window over a long array for example, before it reads
    if np.ndim(indices) != 1 or isinstance(column, Ragged) or column.dtype.hasobject or not column.flags.c_contiguous:
        return column[indices]
    # mode="raise" would take the rows into a buffer first, and copy the buffer
    return np.take(
        column, indices, axis=0, out=aligned_empty((len(indices), *column.shape[1:]), column.dtype), mode="clip"
    )


def _whole(column: Any) -> Any:
    """Return the column as an array; a column such as a mapped table becomes an array only here, which is not kept."""
    return column if isinstance(column, np.ndarray | jax.Array) else np.asarray(column)


def _read_only(column: Any) -> Any:
    """Return a read-only view of the caller's array, so that records served as views of it cannot change it."""
    if isinstance(column, Ragged):
        return column
    view = np.asarray(column).view()
    view.flags.writeable = False
    return view


def _place(array: Any, sharding: jax.sharding.Sharding | None) -> Any:
    if sharding is None and isinstance(array, jax.Array):
        return array
    return put(in_large_pages(array) if isinstance(array, np.ndarray) else array, sharding)


class RecordCache:
    """Columns of all records of a source, filled as the records are first read.

    Memory: that of the records that were read, at most of all (the operating system allocates pages when they are written).
    Any number of threads may use it: records are present once they are written.
    """

    def __init__(self, length: int, spec: ElementSpec) -> None:
        self._columns = jax.tree.map(lambda leaf: _room(length, leaf), spec)
        self._present = np.zeros(length, np.bool_)
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Make the lock anew: in a fork, another thread of the parent may have held it, or may have been reading records."""
        self._keeping = threading.Condition()
        self._being_read = np.zeros(len(self._present), np.bool_)

    def fetch(self, indices: np.ndarray, read: Callable[[np.ndarray], Batch]) -> Batch:
        """Return the records at ``indices``; records that are not kept yet are read first, each once by whichever thread."""
        while (missing := self.missing(indices)).size:
            with self._keeping:
                own = missing[~(self._being_read[missing] | self._present[missing])]
                if not own.size:  # other threads read the rest; if one of them fails, this one reads its records
                    if not self._present[missing].all():
                        self._keeping.wait()
                    continue
                self._being_read[own] = True
            try:
                self.keep(own, read(own))
            finally:
                with self._keeping:
                    self._being_read[own] = False
                    self._keeping.notify_all()
        return self.take(indices)

    def missing(self, indices: np.ndarray) -> np.ndarray:
        """Return the sorted ``indices`` of records that are not kept yet, each once."""
        return np.unique(indices[~self._present[indices]])

    def keep(self, indices: np.ndarray, batch: Batch) -> None:
        """Keep the rows of ``batch``, which are the records at ``indices``."""
        with self._keeping:
            self._columns = jax.tree.map(
                lambda column, rows: self._with_room(column, host_column(rows)), self._columns, batch
            )
            jax.tree.map(lambda column, rows: _put(column, indices, rows), self._columns, batch)
            self._present[indices] = True

    def take(self, indices: np.ndarray) -> Batch:
        """Return the records at ``indices``, all of which must be kept."""
        return jax.tree.map(lambda column: column[indices], self._columns)

    def taken(self, indices: np.ndarray, made: np.ndarray, batch: Batch) -> Batch:  # noqa: ARG002 - of a cache that is full
        """Return the records at ``indices``, after the sorted ``made`` ones, of which ``batch`` is the result, were read."""
        return self.take(indices)

    def _with_room(self, column: Any, rows: Any) -> Any:
        """Return the column, as one of objects if its width would cut off text or bytes among ``rows``."""
        if (
            isinstance(column, _KeptRagged)
            or not is_text(column.dtype)
            or (rows.dtype.kind == column.dtype.kind and rows.itemsize <= column.itemsize)
        ):
            return column
        wider = np.empty(column.shape, object)
        wider[self._present] = column[self._present]
        return wider


class _KeptRagged:
    """The records of a ragged field that were read, each by itself."""

    def __init__(self, length: int, field: jax.ShapeDtypeStruct) -> None:
        self._records = np.empty(length, object)
        self._field = field

    def __getitem__(self, indices: np.ndarray) -> Ragged:
        return Ragged.from_list(self._records[indices].tolist(), self._field.dtype, self._field.shape)

    def __setitem__(self, indices: np.ndarray, rows: Ragged) -> None:
        for index, record in zip(indices.tolist(), rows, strict=True):
            self._records[index] = record.copy()  # a view would keep all rows of the batch


def _room(length: int, field: jax.ShapeDtypeStruct) -> Any:
    """Return a column without values for the records of a field."""
    return _KeptRagged(length, field) if None in field.shape else np.empty((length, *field.shape), field.dtype)


def _put(column: Any, indices: np.ndarray, rows: Any) -> None:
    column[indices] = host_column(rows)
