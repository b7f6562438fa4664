"""Ragged columns: records of varying length, kept as one array of values and the offsets at which records begin.

This is how Arrow keeps lists. In an element spec a ragged field is a ``jax.ShapeDtypeStruct`` with None for each axis that
varies: ``int32[None]`` for tokens, ``uint8[None, None, 3]`` for images of all sizes.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NoReturn, Self, TypeAlias

import numpy as np

from datarax_core.errors import SpecError

from .arrow_lists import arrow_of_lists, lists_of_arrow
from .gathers import aligned_empty, gather_runs, pad_runs
from .ragged_checks import checked_offsets, checked_shapes, converted, inner_of_uniform, padding_of, rows_of

RecordShape: TypeAlias = tuple[int | None, ...]
"""The shape of one record, None for each axis that varies."""

_TO_DENSE: Final = (
    "records of varying length make no one array: bring them to one length, column.to_padded(), or take them one by one, "
    "column[i] or column.to_list()"
)

_AT_ONCE: Final = 4096
"""Records whose offsets are looked up at once by a loop."""


class Ragged:
    """A column of k records of varying length. It is immutable; slices share its memory.

    Record i is ``values[offsets[i]:offsets[i + 1]]``. Where more than the first axis varies, ``shapes`` has the sizes of the
    leading axes of each record, and record i is ``values[offsets[i]:offsets[i + 1]].reshape(*shapes[i], *values.shape[1:])``.

    It is indexed like a column of NumPy: ``column[i]`` is a read-only view of one record, ``column[a:b]`` a column without a
    copy, ``column[indices]`` and ``column[mask]`` one gather.

    Args:
        values: An array (n, ...): the rows of all records, one record after another.
        offsets: Integers (k + 1,): the first row of each record, and the end of the last. They need not begin at 0. They are
            copied, unless they are read-only; the values are not.
        shapes: Integers (k, d): the sizes of the first d axes of each record; None if only the first axis varies.
        record_shape: The shape of a record, None for each axis that varies. Default: each axis of ``shapes`` varies. Needed
            where one of them does not: ``(3, None, None)`` for images whose channels come first.

    Raises:
        SpecError: Offsets go down, or past the end of the values, or do not fit the shapes; says which and where.
    """

    __slots__ = ("_offsets", "_record_shape", "_shapes", "_values")

    _values: np.ndarray
    _offsets: np.ndarray
    _shapes: np.ndarray | None
    _record_shape: RecordShape

    def __init__(
        self, values: Any, offsets: Any, shapes: Any = None, *, record_shape: Sequence[int | None] | None = None
    ) -> None:
        values = rows_of(values)
        if not values.ndim:
            raise SpecError("the values of a ragged column are an array of rows (n, ...), not a single value")
        offsets = checked_offsets(offsets, len(values))
        inner = values.shape[1:]
        if shapes is None:
            form: RecordShape = (None, *inner) if record_shape is None else tuple(record_shape)
            if form != (None, *inner):
                raise SpecError(
                    f"a ragged column without shapes has records of {_shape_title((None, *inner))}, not {_shape_title(form)}; "
                    "pass shapes, the sizes of the leading axes of each record"
                )
        else:
            form, shapes = checked_shapes(shapes, offsets, inner, record_shape)
        self._set(values, offsets, shapes, form)

    # -- what it is ---------------------------------------------------------------------------------------------------------

    @property
    def values(self) -> np.ndarray:
        """The rows of all records, read-only; in a slice, those of the records around it too: see `compact`."""
        return self._values

    @property
    def offsets(self) -> np.ndarray:
        """int64 (k + 1,), read-only: the first row of each record in ``values``, and the end of the last."""
        return self._offsets

    @property
    def shapes(self) -> np.ndarray | None:
        """int64 (k, d), read-only: the sizes of the first d axes of each record; None if only the first axis varies."""
        return self._shapes

    @property
    def record_shape(self) -> RecordShape:
        """The shape of a record, None for each axis that varies."""
        return self._record_shape

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The number of records, and the shape of a record, None for each axis that varies."""
        return (len(self), *self._record_shape)

    @property
    def ndim(self) -> int:
        """The number of axes, that of records included."""
        return 1 + len(self._record_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self._values.dtype

    @property
    def lengths(self) -> np.ndarray:
        """int64 (k,): the number of rows of ``values`` of each record: its length where only the first axis varies."""
        lengths: np.ndarray = self._offsets[1:] - self._offsets[:-1]  # as np.diff, at a tenth of the cost
        return lengths

    @property
    def nbytes(self) -> int:
        """Bytes of the values of these records; in a slice, not of those around it."""
        rows = int(self._offsets[-1] - self._offsets[0])
        return rows * self._values.dtype.itemsize * math.prod(self._values.shape[1:])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __repr__(self) -> str:
        lengths = self.lengths
        rows = f", lengths {lengths.min()} to {lengths.max()}" if len(self) else ""
        return f"<Ragged {self.dtype}{_shape_title(self._record_shape)}: {len(self)} records{rows}>"

    # -- records ------------------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._slice(index)
        if index is Ellipsis:
            return self
        if not isinstance(index, np.ndarray | list):
            try:
                return self._record(operator.index(index))
            except TypeError:
                if not hasattr(index, "__array__"):
                    raise TypeError(
                        "a ragged column is indexed by the number of a record, a slice, an array of numbers or a mask, not by "
                        f"{index!r:.60}; the rows of one record are column[i][...]"
                    ) from None
        indices = np.asarray(index)
        return self._masked(indices) if indices.dtype == np.bool_ else self.take(indices)

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._shapes is not None:
            yield from map(self._record, range(len(self)))
            return
        for first in range(0, len(self), _AT_ONCE):
            offsets = self._offsets[first : first + _AT_ONCE + 1].tolist()
            yield from (self._values[start:end] for start, end in pairwise(offsets))

    def take(self, indices: Any) -> Self:
        """Return the records of these numbers, in this order, copied in one gather; negative numbers count from the end."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or not (indices.dtype.kind in "iu" or not indices.size):
            raise IndexError(f"records are taken by integers (k,), not by {indices.dtype}{list(indices.shape)}")
        indices = indices.astype(np.int64, copy=False)
        least, most = (int(indices.min()), int(indices.max())) if indices.size else (0, -1)
        if least < -len(self) or most >= len(self):
            odd = indices[(indices < -len(self)) | (indices >= len(self))][0]
            raise IndexError(f"record {odd} is out of range: the ragged column has {len(self)} records")
        if least < 0:
            indices = np.where(indices < 0, indices + len(self), indices)
        starts = self._offsets[indices]
        lengths = self._offsets[1:][indices] - starts
        shapes = None if self._shapes is None else self._shapes[indices]
        return self._of_runs(starts, lengths, shapes)

    def to_list(self) -> list[np.ndarray]:
        """Return the records as read-only views."""
        return list(self)

    def compact(self) -> Self:
        """Return the same records with the values of these alone, offsets from 0; nothing is copied."""
        first, last = int(self._offsets[0]), int(self._offsets[-1])
        if first == 0 and last == len(self._values):
            return self
        return self._of(self._values[first:last], self._offsets - first, self._shapes, self._record_shape)

    def copy(self) -> Self:
        """Return the same records in memory of their own."""
        own = self.compact()
        shapes = None if own.shapes is None else own.shapes.copy()
        return self._of(own.values.copy(), own.offsets.copy(), shapes, self._record_shape)

    def tolist(self) -> list[Any]:
        """Return the records as nested lists of Python values."""
        return [record.tolist() for record in self]

    def truncate(self, length: int, side: Literal["left", "right"] = "right") -> Self:
        """Return the records cut to at most ``length`` rows: what is too long loses rows on this side.

        Raises:
            SpecError: More than the first axis varies.
        """
        self._require_one_axis("truncated")
        limit, lengths = _checked_length(length), self.lengths
        if not len(self) or int(lengths.max()) <= limit:
            return self
        kept = np.minimum(lengths, limit)
        starts = self._offsets[:-1] + (lengths - kept if _is_left(side) else 0)
        return self._of_runs(starts, kept, None)

    def to_padded(
        self, length: int | Sequence[int] | None = None, value: Any = 0, side: Literal["left", "right"] = "right"
    ) -> np.ndarray:
        """Return one array (k, length, ...): the records, and ``value`` where they end.

        Args:
            length: The size of the axis that varies, or one for each such axis. Default: the longest record's.
            value: What stands where a record has ended.
            side: The side on which values are added.

        Raises:
            SpecError: A record is longer, or the dtype does not hold the value.
        """
        left, sizes, wanted = _is_left(side), self._sizes(), self._padded_shape(length)
        if (sizes > wanted).any():
            record, axis = np.argwhere(sizes > wanted)[0]
            raise SpecError(
                f"record {record} has {sizes[record, axis]} rows where records are padded to {wanted[axis]}; pad to more, or "
                f"cut them before, column.truncate({wanted[axis]})"
            )
        shape = (len(self), *wanted, *self._values.shape[1:])
        padded = np.empty(shape, object) if self.dtype.hasobject else aligned_empty(shape, self.dtype)
        padding = padding_of(value, self.dtype)
        if self._shapes is None:
            pad_runs(self._values, self._offsets, padded, padding, left=left)
        else:
            padded[...] = padding
            for row, record, found in zip(padded, self, sizes.tolist(), strict=True):
                row[_corner(wanted, found, left=left)] = record
        return padded

    # -- other columns ------------------------------------------------------------------------------------------------------

    def with_values(self, values: Any) -> Self:
        """Return records of the same lengths with other values, row by row; ``values`` has as many rows as ``self.values``.

        Raises:
            SpecError: The number of rows differs.
        """
        values = np.asarray(values)
        if not values.ndim or len(values) != len(self._values):
            rows = len(values) if values.ndim else "no"
            raise SpecError(f"the ragged column has {len(self._values)} rows of values, and the new values have {rows}")
        outer = self._record_shape[: len(self._record_shape) - (self._values.ndim - 1)]
        return self._of(values, self._offsets, self._shapes, (*outer, *values.shape[1:]))

    def astype(self, dtype: Any) -> Self:
        """Return the column in another dtype, converted as NumPy's ``astype`` does; itself if it has that dtype."""
        if self.dtype == np.dtype(dtype):
            return self
        column = self.compact()
        return column.with_values(column.values.astype(dtype))

    def equals(self, other: Any, *, equal_nan: bool = False) -> bool:
        """Return whether another ragged column has the same dtype, axes that vary, lengths and values."""
        if not isinstance(other, Ragged) or self.dtype != other.dtype or self.shape != other.shape:
            return False
        one, two = self.compact(), other.compact()
        if not np.array_equal(one.offsets, two.offsets):
            return False
        if one.shapes is not None and not np.array_equal(one.shapes, two.shapes):  # type: ignore[arg-type]  # of one shape
            return False
        return bool(np.array_equal(one.values, two.values, equal_nan=equal_nan and self.dtype.kind in "fcmM"))

    def __eq__(self, other: object) -> bool:
        return self.equals(other) if isinstance(other, Ragged) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like arrays

    @classmethod
    def from_list(cls, arrays: Sequence[Any], dtype: Any = None, shape: Sequence[int | None] | None = None) -> Self:
        """Return a column of arrays, or lists of numbers, one a record.

        Args:
            arrays: Records that differ in the sizes of their axes, not in their number.
            dtype: The dtype of the values, which must hold all of them. Default: that of the arrays.
            shape: The shape of a record, None for each axis that varies. Default: None for each axis in which the arrays
                differ, and for the first if none do. Needed where there are no arrays.

        Raises:
            SpecError: The arrays have other numbers of axes, several dtypes, or not the shape; says which.
        """
        arrays = list(arrays)
        if (inner := inner_of_uniform(arrays, dtype, shape)) is not None:
            offsets = np.zeros(len(arrays) + 1, np.int64)
            np.fromiter(map(len, arrays), np.int64, len(arrays)).cumsum(out=offsets[1:])
            return cls._of(np.concatenate(arrays, dtype=arrays[0].dtype), offsets, None, (None, *inner))
        parts, form = converted(arrays, dtype, shape)
        varying = _num_leading(form)
        lengths = np.array([math.prod(part.shape[:varying]) for part in parts], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        inner = tuple(size for size in form[varying:] if size is not None)
        rows = [
            part.reshape(-1 if part.size else length, *inner)
            for part, length in zip(parts, lengths.tolist(), strict=True)
        ]
        found_dtype = parts[0].dtype if parts else np.dtype(float if dtype is None else dtype)
        values = np.concatenate(rows, dtype=found_dtype) if rows else np.empty((0, *inner), found_dtype)
        sizes = np.array([part.shape[:varying] for part in parts], np.int64).reshape(len(parts), varying)
        return cls._of(values, offsets, None if varying == 1 else sizes, form)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the records of several columns of one dtype and one shape of records, one column after another.

        Raises:
            SpecError: There are none, or they differ in dtype or in the axes that vary.
        """
        if not parts:
            raise SpecError(
                "no ragged columns were given, so that the dtype of their records is unknown; give one at least"
            )
        titles = list(dict.fromkeys(f"{part.dtype}{_shape_title(part.record_shape)}" for part in parts))
        if len(titles) > 1:
            raise SpecError(
                f"ragged columns of {titles[0]} and of {titles[1]} do not make one; convert them to one form"
            )
        if len(parts) == 1:
            return parts[0]
        parts = [part.compact() for part in parts]
        firsts = np.cumsum([0, *(len(part.values) for part in parts)])
        offsets = np.concatenate(
            [np.zeros(1, np.int64), *(part.offsets[1:] + n for part, n in zip(parts, firsts, strict=False))]
        )
        shapes = (
            None
            if parts[0].shapes is None
            else np.concatenate([part.shapes for part in parts if part.shapes is not None])
        )
        values = np.concatenate([part.values for part in parts], dtype=parts[0].dtype)
        return cls._of(values, offsets, shapes, parts[0].record_shape)

    # -- Arrow --------------------------------------------------------------------------------------------------------------

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.LargeListArray`` that shares the memory of numbers; further fixed axes are fixed-size lists.

        Raises:
            SpecError: More than the first axis varies, or Arrow has no such dtype.
            ImportError: pyarrow is not installed.
        """
        self._require_one_axis("given to Arrow")
        return arrow_of_lists(self._values, self._offsets)

    @classmethod
    def from_arrow(cls, array: Any) -> Self:
        """Return the column of a ``pyarrow`` array of lists, sharing the memory of numbers; those of list views are copied.

        Raises:
            SpecError: The array is none of lists of numbers or text, or has nulls.
            ImportError: pyarrow is not installed.
        """
        return cls(*lists_of_arrow(array))

    # -- refused, and copied ------------------------------------------------------------------------------------------------

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"a ragged column, {self.dtype}{_shape_title(self._record_shape)}, is no array: {_TO_DENSE}")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a ragged column is immutable: make another, Ragged.from_list(records) or column.with_values(values)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.compact()
        return _restored, (type(self), own.values, own.offsets, own.shapes, own.record_shape)

    # -- construction -------------------------------------------------------------------------------------------------------

    @classmethod
    def _of(cls, values: np.ndarray, offsets: np.ndarray, shapes: np.ndarray | None, form: RecordShape) -> Self:
        """Return a column of parts that are known to fit."""
        made = cls.__new__(cls)
        made._set(values, offsets, shapes, form)  # noqa: SLF001 - of this class
        return made

    def _set(self, values: np.ndarray, offsets: np.ndarray, shapes: np.ndarray | None, form: RecordShape) -> None:
        self._values, self._offsets = _read_only(values), _read_only(offsets)
        self._shapes = None if shapes is None else _read_only(shapes)
        self._record_shape = form

    def _of_runs(self, starts: np.ndarray, lengths: np.ndarray, shapes: np.ndarray | None) -> Self:
        offsets = np.zeros(len(lengths) + 1, np.int64)
        lengths.cumsum(out=offsets[1:])
        return self._of(gather_runs(self._values, starts, lengths, offsets), offsets, shapes, self._record_shape)

    def _record(self, number: int) -> np.ndarray:
        if not -len(self) <= number < len(self):
            raise IndexError(f"record {number} is out of range: the ragged column has {len(self)} records")
        number %= len(self)
        rows = self._values[self._offsets[number] : self._offsets[number + 1]]
        return rows if self._shapes is None else rows.reshape(*self._shapes[number], *rows.shape[1:])

    def _slice(self, records: slice) -> Self:
        start, stop, step = records.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step))
        stop = max(start, stop)
        shapes = None if self._shapes is None else self._shapes[start:stop]
        return self._of(self._values, self._offsets[start : stop + 1], shapes, self._record_shape)

    def _masked(self, mask: np.ndarray) -> Self:
        if mask.shape != (len(self),):
            raise IndexError(f"a mask of shape {list(mask.shape)} does not fit a ragged column of {len(self)} records")
        return self.take(np.flatnonzero(mask))

    def _sizes(self) -> np.ndarray:
        """Return int64 (k, d): the sizes of the leading axes of each record."""
        return self.lengths[:, None] if self._shapes is None else self._shapes

    def _padded_shape(self, length: int | Sequence[int] | None) -> tuple[int, ...]:
        sizes = self._sizes()
        form = self._record_shape[: sizes.shape[1]]
        num_varying = form.count(None)
        if length is None:
            longest = sizes.max(axis=0, initial=0).tolist()
            return tuple(n if size is None else size for n, size in zip(longest, form, strict=True))
        given = [length] if not isinstance(length, Sequence | np.ndarray) else list(length)
        if len(given) != num_varying:
            raise SpecError(
                f"records of {_shape_title(self._record_shape)} are padded to a length for each of {num_varying} axes, not to "
                f"{length!r:.60}"
            )
        lengths = iter(map(_checked_length, given))
        return tuple(next(lengths) if size is None else size for size in form)

    def _require_one_axis(self, done: str) -> None:
        if self._shapes is not None:
            raise SpecError(
                f"records of {_shape_title(self._record_shape)} are not {done}: more than their first axis varies; pad them, "
                "or keep values, offsets and shapes"
            )


def _restored(
    cls: type[Ragged], values: np.ndarray, offsets: np.ndarray, shapes: np.ndarray | None, form: RecordShape
) -> Ragged:
    return cls._of(values, offsets, shapes, form)


def _read_only(array: np.ndarray) -> np.ndarray:
    if not array.flags.writeable:
        return array
    array = array.view()
    array.flags.writeable = False
    return array


def _num_leading(form: RecordShape) -> int:
    """Return the number of axes up to the last one that varies."""
    return 1 + max(axis for axis, size in enumerate(form) if size is None)


def _shape_title(form: RecordShape) -> str:
    return f"[{', '.join(map(str, form))}]"


def _is_left(side: str) -> bool:
    if side not in ("left", "right"):
        raise ValueError(f'side is "left" or "right", not {side!r}')
    return side == "left"


def _corner(padded: tuple[int, ...], sizes: list[int], *, left: bool) -> Any:
    """Return the index of a block of these sizes in a padded record: at its beginning, or at its end."""
    return tuple(slice(total - n, None) if left else slice(n) for total, n in zip(padded, sizes, strict=True))


def _checked_length(length: Any) -> int:
    try:
        number = operator.index(length)
    except TypeError:
        number = -1
    if number < 0 or isinstance(length, bool):
        raise ValueError(f"a length is a number of rows, 0 or more, not {length!r:.60}")
    return number
