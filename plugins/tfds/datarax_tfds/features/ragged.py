"""Sequences of sequences: stored as all values one after another, and the length of each row of each level."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .fields import OBJECT, Field
from .items import Item, object_array, sequence_array
from .numbers import AnyArray, feature_type_of, numbers_of
from .stored import (
    BYTES,
    INTEGERS,
    Features,
    Missing,
    ParsedRecords,
    Unfit,
    all_values,
    counted,
    require_example,
    single_value,
)

_INT64 = np.dtype(np.int64)


@dataclass(frozen=True, kw_only=True)
class RaggedField(Field):
    """A sequence of sequences, in TFDS's form: lists of lists of arrays, or one array if every size is declared."""

    levels: int
    """How many sequences are nested: 2 or more."""

    item: Item | None = None
    """Decoder of the values, if they are bytes that are decoded to arrays."""

    def require_room(self, record: ParsedRecords) -> None:
        """Raise `Unfit` if a record has another number of values than is declared; see `Field.require_room`."""
        if not self.is_varying:
            nested = self._nested(self._flat(record.features[0]), self._lengths(record.features[0]))
            if (found := np.shape(np.asarray(nested, self.dtype))) != self.shape:
                raise Unfit(f"an array of the shape {list(found)}")

    def fill(self, records: ParsedRecords, out: AnyArray) -> None:
        """Decode record by record; see `Field.fill`."""
        for row, record in enumerate(records.features):
            if not record[f"{self.key}/ragged_flat_values"]:
                require_example(records.stored[row])
            nested = self._nested(self._flat(record), self._lengths(record))
            if self.is_varying:
                out[row] = nested
            else:
                out[row] = np.asarray(nested, self.dtype).reshape(out[row].shape)

    def _flat(self, record: Features) -> AnyArray:
        """Return the values of all rows of a record. TFDS reads a missing feature as empty."""
        key = f"{self.key}/ragged_flat_values"
        if self.item is None and self.dtype != OBJECT:
            numbers = numbers_of(_numbers(record, key, feature_type_of(self.dtype)), self.dtype)
            return _in_units(numbers, self.shape[self.levels :])
        try:
            values = all_values(record, key, BYTES)
        except Missing:
            values = []
        if self.item is not None:
            return sequence_array(self.item, values)
        return _in_units(object_array(values), self.shape[self.levels :])

    def _lengths(self, record: Features) -> list[list[int]]:
        """Return, for each level but the outermost, how many values or rows each of its rows has."""
        lengths = []
        for level, declared in enumerate(self.shape[1 : self.levels]):
            packed = _numbers(record, f"{self.key}/ragged_row_lengths_{level}", INTEGERS)
            of_level: list[int] = numbers_of(packed, _INT64).tolist()
            if any(length < 0 or declared not in (None, length) for length in of_level):
                raise Unfit(f"rows of {of_level} values")
            lengths.append(of_level)
        return lengths

    def _nested(self, flat: AnyArray, lengths: list[list[int]]) -> list[Any]:
        values: Any = flat
        for of_level in reversed(lengths):
            ends = np.cumsum([0, *of_level]).tolist()
            if ends[-1] != len(values):
                raise Unfit(f"{len(values)} values in rows of {ends[-1]}")
            values = [values[start:end] for start, end in pairwise(ends)]
        if self.shape[0] not in (None, len(values)):
            raise Unfit(counted(len(values), "row"))
        return values  # type: ignore[no-any-return]  # a list: there is at least one inner level


def _numbers(record: Features, key: str, feature_type: int) -> bytes:
    try:
        return single_value(record, key, feature_type)
    except Missing:
        return b""


def _in_units(values: AnyArray, shape: tuple[int | None, ...]) -> AnyArray:
    """Return the values as an array of arrays of a declared shape."""
    try:
        return values.reshape(-1, *shape) if len(values) else values.reshape(0, *shape)
    except ValueError:
        raise Unfit(counted(len(values), "value")) from None
