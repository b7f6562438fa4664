"""The classes of all records by a field: a number for each record, and the value of each class."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import describe, named_fields
from datarax_core.sources import DataSourceModule, field_struct, kept_table

from .strata import by_class

_MOST_COUNTED: Final = 1 << 22
"""Integers from the least to the greatest label that are counted; labels that lie farther apart are sorted."""

_ONE_VALUE: Final = "classes are whole numbers, booleans or text, one value a record"


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of the records of a source.

    Attributes:
        values: The value of each class, ascending: Python integers, booleans, texts or bytes. Class number c is ``values[c]``.
        codes: int (n,), the class number of each record.
    """

    values: tuple[Any, ...]
    codes: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """int64 (classes,): the number of records of each class."""
        return np.bincount(self.codes, minlength=len(self.values))

    @cached_property
    def numbers(self) -> dict[Any, int]:
        """The number of each value."""
        return {value: number for number, value in enumerate(self.values)}

    def table(self, number: int) -> np.ndarray:
        """Return int64 (k,): the record indices of a class, ascending."""
        order, bounds = self._by_class
        return order[bounds[number] : bounds[number + 1]]

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """All record indices, class after class, and the places where classes begin."""
        return by_class(self.codes), np.cumsum([0, *self.counts])

    @cached_property
    def checksum(self) -> str:
        """Hexadecimal checksum of values and classes."""
        digest = hashlib.blake2b(repr(self.values).encode(), digest_size=16)
        digest.update(self.codes.astype("<i8").data)
        return digest.hexdigest()


def classes_of(source: DataSourceModule, field: str) -> Classes:
    """Return the classes of all records of a source.

    The field is taken from memory or from a mapped file if the source has it there; else one pass over the records reads it,
    and what it found is kept in the cache folder.

    Raises:
        SpecError: There is no such field, or its values are no classes.
        NotImplementedError: The source is a stream.
    """
    source.require_record_indices()
    _require_classes(source, field)
    column = source.whole_column(field)
    if column is not None:
        return _of_column(np.asarray(column), field, source.title)
    if field_struct(source, field).dtype.kind in "iub":
        return _of_column(_read(source, field), field, source.title)
    return _of_digests(source, field)


def _require_classes(source: DataSourceModule, field: str) -> None:
    struct = field_struct(source, field)
    if struct.shape or struct.dtype.kind not in "iubUSO":
        shown = describe(source.element_spec())[field]
        raise SpecError(f"field {field!r} of {source.title} is {shown}, which has no classes: {_ONE_VALUE}")


def _of_column(column: np.ndarray, field: str, title: str) -> Classes:
    """Return the classes of a column of integers, booleans, text, bytes, or objects that are text or bytes."""
    if column.dtype.kind in "iu" and column.size:
        least, greatest = int(column.min()), int(column.max())
        if greatest - least < _MOST_COUNTED:
            shifted = (
                column.astype(np.int64) - least if column.dtype != np.uint64 else (column - least).astype(np.int64)
            )
            found = np.flatnonzero(np.bincount(shifted))
            number = np.zeros(greatest - least + 1, np.int32)
            number[found] = np.arange(len(found))
            return Classes(tuple(least + place for place in found.tolist()), number[shifted])
    if column.dtype == object:
        _require_text(column, 0, field, title)
    values, codes = np.unique(column, return_inverse=True)
    return Classes(tuple(values.tolist()), codes.reshape(-1))


def _read(source: DataSourceModule, field: str) -> np.ndarray:
    """Return a column of integers or booleans; one pass reads it."""
    dtype = field_struct(source, field).dtype

    def compute(batch: Any, _: np.ndarray) -> np.ndarray:
        return np.asarray(batch[field])

    return kept_table(source, compute, key={"column": field}, dtype=dtype, fields=(field,), what=f"read {field}")


def _of_digests(source: DataSourceModule, field: str) -> Classes:
    """Return the classes of a field of text: one pass makes a number of 64 bits of each, and a record of each class is read."""

    def compute(batch: Any, indices: np.ndarray) -> np.ndarray:
        column = np.asarray(batch[field])
        if column.dtype == object:
            _require_text(column, indices, field, source.title)
        texts = column.tolist()
        digests = {text: _digest(text) for text in set(texts)}
        return np.array([digests[text] for text in texts], np.uint64)

    key = {"digests of text": field}
    numbers = kept_table(source, compute, key=key, dtype=np.uint64, fields=(field,), what=f"read {field}")
    _, first, codes = np.unique(numbers, return_index=True, return_inverse=True)
    values = np.asarray(named_fields(source.fetch(first))[field]).tolist()
    ascending = sorted(range(len(values)), key=values.__getitem__)
    rank = np.empty(len(values), np.int64)
    rank[ascending] = np.arange(len(values))
    return Classes(tuple(values[place] for place in ascending), rank[codes.reshape(-1)])


def _digest(text: str | bytes) -> int:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _require_text(column: np.ndarray, indices: Any, field: str, title: str) -> None:
    """Raise unless a column of objects holds text only, or bytes only."""
    kinds = {type(value) for value in column}
    if kinds in ({str}, {bytes}, set()):
        return
    allowed = bytes if kinds & {bytes} and str not in kinds else str
    row = next(row for row, value in enumerate(column) if type(value) is not allowed)
    record = row if np.isscalar(indices) else int(indices[row])
    raise SpecError(f"record {record} of {title} has {column[row]!r:.40} as {field!r}, which is no class: {_ONE_VALUE}")
